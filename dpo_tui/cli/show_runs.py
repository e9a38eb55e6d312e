"""Look at runs: `runs`, `status`, `logs`."""

import os
import time
from typing import Any, BinaryIO

import click

from dpo_tui.advice.diagnose import as_event, diagnose
from dpo_tui.cli import run_text
from dpo_tui.cli.output import narrate, print_json
from dpo_tui.errors import RunError
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.status import status_of
from dpo_tui.runs.statuses import UNKNOWN
from dpo_tui.text.printable import printable

_FOLLOW_POLL = 0.3
_NO_TERMINAL = 80
_BLOCK = 1 << 16


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, each item as `status --json` prints it.")
def runs(as_json: bool) -> None:
    """List all runs, newest first."""
    now = time.time()
    found = [_summary_or_reason(folder, now, brief=not as_json) for folder in store.all_runs()]
    if as_json:
        print_json(found)
    elif found:
        click.echo("\n".join(run_text.table(found, _width(), now)))
    else:
        narrate("No runs yet. `dpo-tui demo` makes one in a minute, `dpo-tui train CONFIG` a real one.")


@click.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print one flat JSON object.")
def status(run: str, as_json: bool) -> None:
    """Tell how a run is doing, and what can be done next. RUN is an id, a unique prefix of it, a name, or `last`."""
    found = _advised(store.summary(store.find(run)))
    if as_json:
        print_json(found)
        return
    click.echo("\n".join([*run_text.paragraph(found, _width()), *run_text.next_steps(found)]))


@click.command()
@click.argument("run")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option("-n", "--lines", type=click.IntRange(min=0), help="Only the last N lines, and what follows.")
def logs(run: str, follow: bool, lines: int | None) -> None:
    """Print what a run's worker printed. RUN is an id, a unique prefix of it, a name, or `last`."""
    folder = store.find(run)
    while not folder.train_log.exists():
        now = status_of(folder)
        if now.over or not follow:
            narrate(f"Run {folder.id} has printed nothing yet: it is {now.status}. {printable(now.reason)}".rstrip())
            return
        time.sleep(_FOLLOW_POLL)
    with open(folder.train_log, "rb") as log:
        if lines is not None:
            _seek_last_lines(log, lines)
        _print_log(log, folder if follow else None)
    if follow:
        end = status_of(folder)
        narrate(f"Run {folder.id} is {end.status}. {printable(end.reason, single_line=True)}".rstrip())


def _summary_or_reason(folder: RunFolder, now: float, brief: bool) -> dict[str, Any]:
    """A run's summary; for one that this version cannot read, why not: one bad folder must not hide the others."""
    try:
        found = store.summary(folder, now=now, brief=brief)
        return found if brief else _advised(found)
    except RunError as error:
        return {"id": folder.id, "name": "", "status": UNKNOWN, "reason": error.message, "dir": str(folder.path)}


def _advised(summary: dict[str, Any]) -> dict[str, Any]:
    """Add how the run is going, in words, unless its worker said so itself."""
    if summary.get("advice") is None and summary["status"] != "queued":
        summary["advice"] = as_event(diagnose(summary["dir"])[0])
    return summary


def _print_log(log: BinaryIO, follow: RunFolder | None) -> None:
    pending = b""
    while True:
        # Asked before reading: what a run wrote before its end is read after it.
        over = follow is None or status_of(follow).over
        while block := log.read(_BLOCK):
            *whole, pending = (pending + block).split(b"\n")
            for line in whole:
                _print_line(line)
        if over:
            break
        time.sleep(_FOLLOW_POLL)
    if pending:
        _print_line(pending)


def _print_line(line: bytes) -> None:
    """One line as a terminal would leave it: of a progress bar that drew over itself, the last picture."""
    pictures = [picture for picture in line.decode("utf-8", "replace").split("\r") if picture.strip()]
    click.echo(printable(pictures[-1]) if pictures else "")


def _seek_last_lines(log: BinaryIO, lines: int) -> None:
    """Move to where the last ``lines`` lines begin, reading blocks from the end."""
    position = end = log.seek(0, os.SEEK_END)
    tail = b""
    while position > 0 and tail.count(b"\n") <= lines:
        start = max(0, position - _BLOCK)
        log.seek(start)
        tail = log.read(position - start) + tail
        position = start
    pieces = tail.split(b"\n")
    # A line feed at the very end closes the last line and does not begin another.
    kept = lines + 1 if pieces[-1] == b"" else lines
    log.seek(end - len(b"\n".join(pieces[-kept:])) if kept else end)


def _width() -> int:
    """Columns of the terminal, or 80 where there is none (`shutil` knows as well, and takes longer to import)."""
    told = os.environ.get("COLUMNS", "")
    if told.isdigit() and int(told) > 0:
        return int(told)
    try:
        return os.get_terminal_size(1).columns or _NO_TERMINAL
    except OSError:
        return _NO_TERMINAL
