"""Write the report of an improvement: its figures, then the same as Markdown and as HTML."""

from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_plan import ImprovementPlan
from dpo_tui.improve.improvement_state import ImprovementState
from dpo_tui.improve.improvement_status import improvement_status
from dpo_tui.improve.report.report_figures import report_figures
from dpo_tui.improve.report.report_html import report_html
from dpo_tui.improve.report.report_markdown import report_markdown
from dpo_tui.runs.atomic_files import write_json_atomic, write_text_atomic


def write_report(folder: ImprovementFolder, plan: ImprovementPlan, state: ImprovementState) -> None:
    """Write ``report.json``, ``report.md`` and ``report.html``.

    Raises:
        RunError: a file that the figures need cannot be read.
        OSError: the disk is full.
    """
    figures = report_figures(folder, plan, state)
    markdown = report_markdown(figures)
    write_json_atomic(folder.report_figures, figures)
    write_text_atomic(folder.report, markdown)
    write_text_atomic(folder.report_html, report_html(markdown, figures))


def rewrite_report(folder: ImprovementFolder) -> None:
    """Write the report of an improvement again after verdicts of a person; its driver, while it lives, does it itself.

    Raises:
        RunError: a file that the figures need cannot be read.
        OSError: the disk is full.
    """
    status = improvement_status(folder)
    if not status.live and folder.report.exists():
        write_report(folder, status.plan, status.state)
