"""Text of the data screen: the report of a scan, the title row, and the checks whose rows can be left out."""

from typing import Any

from dpo_tui.data.checks.double_encoding import IDENTITY as DOUBLE_ENCODED
from dpo_tui.data.checks.registry import checks
from dpo_tui.data.scan.report_text import report_text
from dpo_tui.views.dataset_browser import BrowsedPair, DatasetBrowser, Decisions
from dpo_tui.views.styled_text import Paragraph, StyledRow

FIX_ENCODING = "fix-encoding"
"""What a repair does beside leaving rows out: texts that were encoded twice are restored."""


def report_page(report: dict[str, Any]) -> list[Paragraph]:
    """The report of a scan, one paragraph a line, problems in their colour; what to do is said by keys of the app."""
    in_app = {check.remedy: check.in_app for check in checks().values() if check.in_app}
    roles = {"✗": "bad", "⚠": "warn"}
    lines = report_text(report, remedies=in_app).splitlines()
    return [(line, roles.get(line[:2].strip(), "text") if line[1:2] == " " else "text") for line in lines]


def title_parts(
    location: str, pairs: DatasetBrowser | None, at: BrowsedPair | None, check: str, decisions: Decisions
) -> list[StyledRow]:
    """The parts of the title row, the most important first.

    Args:
        location: path or hub id of the dataset; empty while none is open.
        pairs: the dataset while the view of pairs is open.
        at: the pair shown.
        check: id of the check whose pairs alone are paged through; empty for all pairs.
        decisions: the user's, not saved yet.
    """
    parts: list[StyledRow] = [[("Data", "title")]]
    if pairs is None or at is None:
        return [*parts, [(location, "value")]] if location else parts
    parts.append([("pair ", "muted"), (f"{at.row:,} of {pairs.count:,}", "value")])
    if at.place:
        parts.append([(at.place, "muted")])
    if at.flagged_by:
        parts.append([("⚠ ", "warn"), (", ".join(at.flagged_by), "warn")])
    if check:
        parts.append([(f"only {check}", "accent")])
    if decisions.count:
        parts.append([(f"{decisions.count} decided, not saved", "accent")])
    return parts


def droppable_checks(report: dict[str, Any] | None) -> list[tuple[str, str]]:
    """(id, label) of what a repair can do: leave out usable rows that a check flagged, or `FIX_ENCODING`."""
    problems = (report or {}).get("problems", [])
    encoded = next((problem["count"] for problem in problems if problem["check"] == DOUBLE_ENCODED), 0)
    restored = [(FIX_ENCODING, f"restore, not leave out: {encoded:,} texts that were encoded twice")] if encoded else []
    return restored + [
        (problem["check"], f"{problem['check']:<19}{problem['count']:>9,}  {problem['title']}")
        for problem in problems
        if problem["rows"] and problem["severity"] != "error"
    ]
