"""How long a dataset's pairs are: the histogram, what TRL will drop and cut, and what max_seq_length keeps how much."""

from typing import Any

from dpo_tui.views.monitor_text import Piece

_BAR = 40
_BECAUSE = ": the prompt alone fills it, or the chat template refuses them"
_CUT = ": they teach the model to end in the middle"
_PARTS = (("prompt", "prompts"), ("chosen", "chosen answers"), ("rejected", "rejected answers"))


def lengths_text(report: dict[str, Any] | None, model: str = "", problem: str = "") -> list[Piece]:
    """The page about lengths.

    Args:
        report: of a scan, as it comes; None before the first.
        model: whose tokenizer counts; empty for none.
        problem: why tokens could not be counted.
    """
    if report is None:
        return [("Reading …", "muted")]
    tokens = report["lengths"]["tokens"]
    text: list[Piece] = []
    if problem:
        text += [(f"✗ {problem}", "bad"), ("m names another model.", "accent"), ("", "text")]
    elif tokens is None:
        told = "No model is known: m names one, or choose it in New. Until then these are characters."
        text += [(f"Counting with the tokenizer of {model} …" if model else told, "accent"), ("", "text")]
    else:
        text += [*_fit(report, tokens), ("", "text")]
    known = tokens or report["lengths"]["characters"]
    unit = "tokens" if tokens else "characters"
    text.append((f"{'':<18}{'median':>9}{'95 %':>9}{'99 %':>9}{'longest':>9}", "muted"))
    for part, name in (*_PARTS, ("longest", "prompt + answer")):
        if (summary := known.get(part)) and summary.get("count"):
            numbers = "".join(f"{summary[key]:>9,}" for key in ("p50", "p95", "p99", "max"))
            text.append((f"{name:<18}{numbers}", "code"))
    whole = known.get("longest")
    if whole and whole.get("count"):
        text += [("", "text"), (f"Prompt and the longer answer, {unit}: pairs by length", "heading")]
        text += histogram(whole, report["max_length"])
    return text


def histogram(summary: dict[str, Any], limit: int | None) -> list[Piece]:
    """A bar a bin; bins that hold pairs longer than the limit are warned about.

    Args:
        summary: of `dpo_tui.data.tokens.length_histogram.LengthHistogram`; its last bin holds all that is longer.
        limit: tokens that training keeps; None for none.
    """
    width, counts = summary["histogram"]["bin_width"], summary["histogram"]["counts"]
    last = max((at for at, count in enumerate(counts) if count), default=0)
    most = max(counts, default=0) or 1
    lines: list[Piece] = []
    for at, count in enumerate(counts[: last + 1]):
        low, high = at * width, (at + 1) * width - 1
        high = max(high, summary["max"]) if at == len(counts) - 1 else high
        bar = "▇" * (0 if not count else max(1, round(count / most * _BAR)))
        beyond = limit is not None and high > limit
        marked = "  ← max_seq_length" if beyond and low <= (limit or 0) else ""
        lines.append((f"{f'{low:,}-{high:,}':>15} {bar:<{_BAR}} {count:>9,}{marked}".rstrip(), _role(beyond, count)))
    return lines


def _role(beyond: bool, count: int) -> str:
    return "warn" if beyond and count else "code"


def _fit(report: dict[str, Any], tokens: dict[str, Any]) -> list[Piece]:
    limit, keeps = report["max_length"], report["keeps"]
    dropped, cut = report["will_drop"] or 0, report["will_truncate"] or 0
    text: list[Piece] = [
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
