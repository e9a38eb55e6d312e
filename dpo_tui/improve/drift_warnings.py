"""Signs that a judge is pleased without the answers being better: what has changed besides the win rate, in words.

Optimising a judge's word finds what it likes by mistake (reward hacking; Gao et al. 2023, arXiv 2210.10760): length,
formatting, refusing, repeating. The thresholds are rules of thumb, and a warning asks for a look, it decides nothing.
"""

from collections.abc import Mapping
from typing import Any

from dpo_tui.judging.win_rate import wilson

_LONGER, _SHORTER = 1.3, 1 / 1.3
"""Factors of the mean length beyond which it is worth a word: win rates of judge models rise with length alone (Dubois
et al. 2024, arXiv 2404.04475)."""
_REFUSALS = 0.1
"""Rise of the share of refusals."""
_REPETITION = 0.1
"""Rise of the share of repeated sequences of four words."""
_FORMATTED = 0.3
"""Change of the share of formatted answers, up or down."""
_CUT = 0.2
"""Share of answers that the token limit has cut."""
_CHOSEN_LONGER = 0.7
"""Share of pairs whose chosen answer is the longer one, whose interval must lie above."""


def drift_warnings(start: Mapping[str, Any] | None, figures: Mapping[str, Any]) -> list[str]:
    """Say what a round's answers have become besides better or worse.

    Args:
        start: features of the start model's held-out answers.
        figures: of the round, as `dpo_tui.improve.round_figures` gives them.
    """
    found = _of_pairs(figures["counts"])
    now = figures["features"]
    if not start or not now:
        return found
    factor = now["words"] / start["words"] if start["words"] else 1.0
    if not _SHORTER <= factor <= _LONGER:
        change = f"{factor:.1f} times as long" if factor > 1 else f"{factor:.0%} as long"
        found.append(
            f"answers are {change} as at the start ({start['words']:.0f} to {now['words']:.0f} words): judges may "
            "prefer a length"
        )
    if now["refusals"] - start["refusals"] > _REFUSALS:
        found.append(f"refusals have risen from {start['refusals']:.0%} to {now['refusals']:.0%} of the answers")
    if now["repetition"] - start["repetition"] > _REPETITION:
        found.append(
            f"repetition has risen: {now['repetition']:.0%} of the sequences of four words have stood before in their "
            f"answer, {start['repetition']:.0%} at the start"
        )
    if abs(now["formatted"] - start["formatted"]) > _FORMATTED:
        found.append(
            f"formatting has changed: {now['formatted']:.0%} of the answers have lists, headings or code, "
            f"{start['formatted']:.0%} at the start"
        )
    if now["cut"] > _CUT and now["cut"] > start["cut"]:
        found.append(f"{now['cut']:.0%} of the answers reach the token limit, {start['cut']:.0%} at the start")
    return found


def _of_pairs(counts: Mapping[str, Any]) -> list[str]:
    longer, pairs = counts.get("chosen_longer", 0), counts.get("pairs", 0)
    if not pairs or wilson(longer, pairs)[0] <= _CHOSEN_LONGER:
        return []
    return [f"in {longer} of {pairs} pairs the chosen answer is the longer one: the judge may prefer length"]
