"""The runs of a group in the order of their held-out accuracy, with what in their differences is chance.

Intervals are Wilson's (`dpo_tui.judging.win_rate.wilson`); whether a run is behind the best one is decided by the
interval of the difference (`dpo_tui.runs.comparison_noise.differs`). Runs do not record which pairs they got right, so
they are compared as independent samples, though they mostly are the same pairs: what is called more than chance is so.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dpo_tui.groups.group_status import REMOVED, GroupStatus, MemberStatus
from dpo_tui.judging.win_rate import wilson
from dpo_tui.runs.comparison import RunComparison, compare
from dpo_tui.runs.comparison_noise import ACCURACY, differs
from dpo_tui.runs.held_out_record import held_out_pairs
from dpo_tui.runs.status_names import UNKNOWN

_MARGIN, _KL = "eval_rewards/margins", "eval_kl"
LOSS = "eval_loss"
"""What ranks the runs of a strategy without an accuracy."""
BEST, WITHIN_CHANCE, BEHIND = "best", "within chance", "behind"
"""Verdicts; empty where a run has no figure, or its pairs are others."""


@dataclass(frozen=True)
class RankedRun:
    """A run of a group in its place.

    Attributes:
        place: from 1; None without a figure to rank it by.
        number: of the member.
        name: of the run.
        run: its id; None where it has none.
        status: as in `MemberStatus`; ``behind`` for a run that was stopped for that.
        values: the settings that differ within the group.
        accuracy: held-out accuracy, 0 to 1.
        low: lower bound of its 95 % interval, ``high`` the upper one; None where the number of pairs is not known.
        high: see ``low``.
        pairs: number of held-out pairs.
        margin: held-out reward margin.
        kl: KL to the reference, nats an answer.
        loss: held-out loss.
        verdict: compared with the best: `BEST`, `WITHIN_CHANCE`, `BEHIND`, or empty.
    """

    place: int | None
    number: int
    name: str
    run: str | None
    status: str
    values: dict[str, Any]
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int | None = None
    margin: float | None = None
    kl: float | None = None
    loss: float | None = None
    verdict: str = ""


@dataclass(frozen=True)
class Ranking:
    """The ranking of a group.

    Attributes:
        by: the metric that it is by.
        runs: the best first; those without a figure last.
        notes: what in it is chance or does not compare, in sentences.
    """

    by: str
    runs: tuple[RankedRun, ...]
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """As one object, for ``compare GROUP --json``."""
        return {"by": self.by, "runs": [asdict(run) for run in self.runs], "notes": list(self.notes)}


def rank(status: GroupStatus) -> Ranking:
    """Rank the runs of a group by held-out accuracy, or by held-out loss where they have no accuracy.

    Raises:
        RunError: a run was written by a newer dpo-tui.
    """
    members = [one for one in status.members if one.run is not None and one.status not in (REMOVED, UNKNOWN)]
    folders = [one.run for one in members if one.run is not None]
    comparison = compare(folders)
    by = ACCURACY if any(value is not None for value in comparison.results.get(ACCURACY, ())) else LOSS
    figured = [_figured(one, place, comparison) for place, one in enumerate(members)]
    without = [_unfigured(one) for one in status.members if one not in members]
    same_pairs = comparison.same_held_out is not False
    ordered = _ordered([*figured, *without], by, same_pairs)
    return Ranking(by, tuple(ordered), tuple(_notes(ordered, by, comparison)))


def _figured(one: MemberStatus, place: int, comparison: RunComparison) -> dict[str, Any]:
    def figure(metric: str) -> float | None:
        values = comparison.results.get(metric)
        return values[place] if values else None

    accuracy, pairs = figure(ACCURACY), held_out_pairs(one.run)
    low, high = wilson(round(accuracy * pairs), pairs) if accuracy is not None and pairs else (None, None)
    figures = {"accuracy": accuracy, "low": low, "high": high, "pairs": pairs}
    return _unfigured(one) | figures | {"margin": figure(_MARGIN), "kl": figure(_KL), "loss": figure(LOSS)}


def _unfigured(one: MemberStatus) -> dict[str, Any]:
    return {
        "number": one.member.number,
        "name": one.member.name,
        "run": one.run.id if one.run is not None else None,
        "status": BEHIND if one.behind else one.status,
        "values": one.member.values,
    }


def _ordered(found: Sequence[dict[str, Any]], by: str, same_pairs: bool) -> list[RankedRun]:
    name, sign = ("accuracy", -1.0) if by == ACCURACY else ("loss", 1.0)
    known = sorted(
        (one for one in found if one.get(name) is not None), key=lambda one: (sign * one[name], one["number"])
    )
    unknown = [one for one in found if one.get(name) is None]
    ranked = []
    for place, one in enumerate(known, 1):
        verdict = _verdict(known[0], one) if by == ACCURACY and same_pairs else ""
        ranked.append(RankedRun(place=place, verdict=verdict, **one))
    return [*ranked, *(RankedRun(place=None, **one) for one in unknown)]


def _verdict(best: dict[str, Any], one: dict[str, Any]) -> str:
    if one is best:
        return BEST
    if not best["pairs"] or not one["pairs"]:
        return ""
    more = differs(best["accuracy"], best["pairs"], one["accuracy"], one["pairs"])
    return BEHIND if more else WITHIN_CHANCE


def _notes(ordered: Sequence[RankedRun], by: str, comparison: RunComparison) -> list[str]:
    ranked = [one for one in ordered if one.place is not None]
    unread = [one.name for one in ordered if one.status == UNKNOWN]
    notes = [f"Left out, since what is recorded of it cannot be read: {', '.join(unread)}."] if unread else []
    if not ranked:
        return [*notes, "No run has been evaluated on held-out rows yet."]
    if comparison.warning:
        notes.append(f"{comparison.warning[:1].upper()}{comparison.warning[1:]}.")
    even = [one.name for one in ranked if one.verdict == WITHIN_CHANCE]
    behind = [one.name for one in ranked if one.verdict == BEHIND]
    if even:
        notes.append(f"Within chance of {ranked[0].name}: {', '.join(even)}. Which of them is best is not known.")
    if behind:
        notes.append(f"Behind {ranked[0].name} by more than chance makes (95 %): {', '.join(behind)}.")
    if early := [f"{one.name} ({one.status})" for one in ranked if one.status != "done"]:
        notes.append(f"Not trained to the end, with the figures of the last evaluation: {', '.join(early)}.")
    if by != ACCURACY:
        notes.append("Ranked by held-out loss: what chance does to it is not recorded; another seed shows it.")
    if len(ranked) > 2:  # noqa: PLR2004 - of two the better one is hardly chosen
        notes.append(
            f"The best of {len(ranked)} runs is partly luck, and its interval does not know that it was chosen."
        )
    if comparison.best.get(_MARGIN) is None and len({str(one.values.get("beta")) for one in ranked}) > 1:
        notes.append("Margins grow with β, and do not compare between its values.")
    return notes
