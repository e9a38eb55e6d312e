"""Follow an improvement in the foreground: a line for each step and round, a status line in a terminal."""

import shutil
import time

import click

from dpo_tui.cli.output import is_terminal, narrate
from dpo_tui.cli.stop_on_interrupt import StopOnInterrupt
from dpo_tui.improve.improvement_control import stop_improvement
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_status import ImprovementStatus, improvement_status
from dpo_tui.improve.report.report_markdown import rate_text
from dpo_tui.improve.round_figures import round_figures
from dpo_tui.improve.round_result import read_result
from dpo_tui.improve.round_verdicts import AGAINST_START, JUDGE
from dpo_tui.runs import exit_codes
from dpo_tui.text.printable import printable

_POLL_SECONDS = 0.5


def follow_improvement(folder: ImprovementFolder) -> int:
    """Show an improvement until it ends, and return the command's exit code: 0 for every stated end.

    The first Ctrl-C asks it to stop, a training with a checkpoint; the second ends at once. A hang-up ends this command
    only.
    """
    step, told = "", 0
    with StopOnInterrupt(
        lambda now: stop_improvement(folder, now=now), "stopping: a training saves a checkpoint at its next step"
    ):
        while True:
            status = improvement_status(folder)
            if status.state.step != step:
                step = status.state.step
                _clear_line()
                narrate(f"  {printable(step, single_line=True)}")
            while read_result(folder.round(told + 1)) is not None:
                told += 1
                _clear_line()
                narrate(round_line(folder, status, told))
            if status.over:
                _clear_line()
                return _print_end(folder, status)
            if is_terminal() and status.progress:
                text = printable(status.progress, single_line=True)
                click.echo(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}", nl=False, err=True)
            time.sleep(_POLL_SECONDS)


def round_line(folder: ImprovementFolder, status: ImprovementStatus, number: int) -> str:
    """A complete round on one line."""
    figures = round_figures(folder, status.plan, number)
    rate = rate_text(figures["wins"][JUDGE][AGAINST_START])
    return printable(
        f"✓ round {number}: {figures['counts'].get('pairs', 0)} pairs, run {figures['run']} wins {rate} over the start",
        single_line=True,
    )


def _clear_line() -> None:
    if is_terminal():
        click.echo("\r\x1b[K", nl=False, err=True)


def _print_end(folder: ImprovementFolder, status: ImprovementStatus) -> int:
    narrate(printable(f"{status.status}: {status.reason}"))
    if status.status != "done":
        narrate(f"  dpo-tui resume {folder.id}   goes on")
    if folder.report.exists():
        click.echo(str(folder.report))
    if status.status == "stopped":
        return exit_codes.STOPPED
    return exit_codes.DONE if status.status == "done" else exit_codes.FAILED
