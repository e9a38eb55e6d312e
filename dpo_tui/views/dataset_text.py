"""What the data screen says about a dataset: its report, the row at the top, and which checks could be acted on."""

from typing import Any

from dpo_tui.data.scan.report_text import report_text
from dpo_tui.views.dataset_browser import DatasetBrowser, Decisions, PairAt
from dpo_tui.views.monitor_text import Piece


def report_page(report: dict[str, Any]) -> list[Piece]:
    """A report with its problems in colour."""
    roles = {"✗": "bad", "⚠": "warn"}
    lines = report_text(report).splitlines()
    return [(line, roles.get(line[:2].strip(), "text") if line[1:2] == " " else "text") for line in lines]


def where(
    location: str, pairs: DatasetBrowser | None, at: PairAt | None, check: str, decisions: Decisions
) -> list[list[Piece]]:
    """The parts of the first row.

    Args:
        location: of the data; empty while none is open.
        pairs: the data while its pairs are seen.
        at: the pair that is.
        check: the only check whose pairs are gone through; empty for all.
        decisions: of the person.
    """
    parts: list[list[Piece]] = [[("Data", "title")]]
    if pairs is None or at is None:
        return [*parts, [(location, "value")]] if location else parts
    parts.append([("pair ", "muted"), (f"{at.row:,} of {pairs.count:,}", "value")])
    if at.named_by:
        parts.append([("⚠ ", "warn"), (", ".join(at.named_by), "warn")])
    if check:
        parts.append([(f"only {check}", "accent")])
    if decisions.count:
        parts.append([(f"{decisions.count} decided, not saved", "accent")])
    return parts


def droppable(report: dict[str, Any] | None) -> list[tuple[str, str]]:
    """(id, words) of the checks that name rows which training would use."""
    return [
        (problem["check"], f"{problem['check']:<19}{problem['count']:>9,}  {problem['title']}")
        for problem in (report or {}).get("problems", [])
        if problem["rows"] and problem["severity"] != "error"
    ]
