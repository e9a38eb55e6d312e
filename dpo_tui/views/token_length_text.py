"""Text of the length view of a dataset: statistics, what TRL will drop and cut at max_seq_length, and a histogram."""

from typing import Any

from dpo_tui.views.styled_text import Paragraph

_BAR = 40
"""Cells of the longest bar."""
_BECAUSE = ": the prompt alone fills it, or the chat template refuses them"
_CUT = ": they teach the model to end in the middle"
_PARTS = (("prompt", "prompts"), ("chosen", "chosen answers"), ("rejected", "rejected answers"))


def lengths_text(report: dict[str, Any] | None, model: str = "", problem: str = "") -> list[Paragraph]:
    """The page of the length view.

    Args:
        report: of the scan so far; None before the first.
        model: the model whose tokenizer counts; empty for none.
        problem: why tokens could not be counted; empty when they can.
    """
    if report is None:
        return [("Reading …", "muted")]
    tokens = report["lengths"]["tokens"]
    text: list[Paragraph] = []
    if problem:
        text += [(f"✗ {problem}", "bad"), ("m names another model.", "accent"), ("", "text")]
    elif tokens is None:
        no_model = "No model is known: m names one, or choose it in New. Until then these are characters."
        text += [(f"Counting with the tokenizer of {model} …" if model else no_model, "accent"), ("", "text")]
    else:
        text += [*_limit_text(report, tokens), ("", "text")]
    lengths = tokens or report["lengths"]["characters"]
    unit = "tokens" if tokens else "characters"
    text.append((f"{'':<18}{'median':>9}{'95 %':>9}{'99 %':>9}{'longest':>9}", "muted"))
    for part, name in (*_PARTS, ("longest", "prompt + answer")):
        if (summary := lengths.get(part)) and summary.get("count"):
            numbers = "".join(f"{summary[key]:>9,}" for key in ("p50", "p95", "p99", "max"))
            text.append((f"{name:<18}{numbers}", "code"))
    whole = lengths.get("longest")
    if whole and whole.get("count"):
        text += [("", "text"), (f"Prompt and the longer answer, {unit}: pairs by length", "heading")]
        text += histogram(whole, report["max_length"])
    return text


def histogram(summary: dict[str, Any], limit: int | None) -> list[Paragraph]:
    """The histogram, one bar a bin; bins with pairs longer than the limit have the colour of a warning.

    Args:
        summary: of `dpo_tui.data.tokens.length_histogram.LengthHistogram`; its last bin holds all longer pairs.
        limit: max_seq_length in tokens; None for no limit.
    """
    width, counts = summary["histogram"]["bin_width"], summary["histogram"]["counts"]
    last = max((at for at, count in enumerate(counts) if count), default=0)
    largest = max(counts, default=0) or 1
    lines: list[Paragraph] = []
    for at, count in enumerate(counts[: last + 1]):
        low, high = at * width, (at + 1) * width - 1
        high = max(high, summary["max"]) if at == len(counts) - 1 else high
        bar = "▇" * (0 if not count else max(1, round(count / largest * _BAR)))
        beyond = limit is not None and high > limit
        mark = "  ← max_seq_length" if beyond and low <= (limit or 0) else ""
        lines.append((f"{f'{low:,}-{high:,}':>15} {bar:<{_BAR}} {count:>9,}{mark}".rstrip(), _role(beyond, count)))
    return lines


def _role(beyond: bool, count: int) -> str:
    return "warn" if beyond and count else "code"


def _limit_text(report: dict[str, Any], tokens: dict[str, Any]) -> list[Paragraph]:
    """What max_seq_length drops and cuts, and which limits would keep 95, 99 and 100 % of the pairs whole."""
    limit, keeps = report["max_length"], report["keeps"]
    dropped, cut = report["will_drop"] or 0, report["will_truncate"] or 0
    text: list[Paragraph] = [
        (f"Counted with the tokenizer of {report['model']}", "heading"),
        (f"At max_seq_length {limit:,}, of {report['usable']:,} pairs will", "text"),
        (f"{dropped:>9,}  be dropped{_BECAUSE if dropped else ''}", "warn" if dropped else "good"),
        (f"{cut:>9,}  answers be cut{_CUT if cut else ''}", "warn" if cut else "good"),
        ("Whole pairs are kept by max_seq_length", "text"),
        *((f"{keeps[share]:>9,}  for {share} % of them", "text") for share in ("95", "99", "100")),
    ]
    if not tokens["exact"]:
        text.append((f"An estimate from {tokens['counted']:,} pairs; the rest is being counted.", "muted"))
    return text
