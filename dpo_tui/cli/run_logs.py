"""`dpo-tui logs`: what a run's worker printed, whole, its last lines, or followed; its events and answers."""

import os
import time
from pathlib import Path
from typing import BinaryIO

import click

from dpo_tui.cli.output import narrate
from dpo_tui.cli.run_argument import RUN
from dpo_tui.errors import RunError, UsageError
from dpo_tui.groups.group_store import find_run
from dpo_tui.runs.atomic_files import only_regular
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.status import status_of
from dpo_tui.text.printable import printable

_POLL_SECONDS = 0.3
_BLOCK_BYTES = 1 << 16


@click.command()
@click.argument("run", type=RUN)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option(
    "--rank", type=click.IntRange(min=0), default=0, help="Of several processes that train together: the one to read."
)
@click.option("-n", "--lines", type=click.IntRange(min=0), help="Only the last N lines, and what follows.")
@click.option(
    "--show",
    type=click.Choice(["output", "events", "samples"]),
    default="output",
    help="What the worker printed; or phases, checkpoints and warnings; or the sample prompts with their first and "
    "latest answers.",
)
def logs(run: str, follow: bool, rank: int, lines: int | None, show: str) -> None:
    """Print what a run's worker printed. RUN is an id, a unique prefix of it, a name, or `last`."""
    folder = find_run(run)
    if show != "output":
        if follow or rank or lines is not None:
            raise UsageError(f"--show {show} prints all, and goes with no other option")
        _print_story(folder, samples=show == "samples")
        return
    _require_rank(folder, rank)
    path = folder.rank_log(rank)
    while not path.exists():
        current = status_of(folder)
        if current.over or not follow:
            narrate(
                f"Run {folder.id} has printed nothing yet: it is {current.status}. {printable(current.reason)}".rstrip()
            )
            return
        time.sleep(_POLL_SECONDS)
    with _opened(path) as log:
        if lines is not None:
            _seek_last_lines(log, lines)
        _print_log(log, folder if follow else None)
    if follow:
        end = status_of(folder)
        narrate(f"Run {folder.id} is {end.status}. {printable(end.reason, single_line=True)}".rstrip())


def _opened(path: Path) -> BinaryIO:
    try:
        return open(path, "rb", opener=only_regular)
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error


def _print_story(folder: RunFolder, *, samples: bool) -> None:
    """Print what the monitor shows as events or as samples."""
    from dpo_tui.runs.atomic_files import read_last_json_lines
    from dpo_tui.views.monitor_text import EVENTS_SHOWN, events_text, samples_text

    shown = samples_text(folder.samples) if samples else events_text(read_last_json_lines(folder.events, EVENTS_SHOWN))
    for text, _ in shown:
        click.echo(printable(text))


def _require_rank(folder: RunFolder, rank: int) -> None:
    state = status_of(folder).state
    ranks = state.ranks if state else 1
    # A log of an earlier attempt, which had more of them, can still be read.
    if rank >= ranks and not folder.rank_log(rank).exists():
        raise UsageError(
            f"--rank {rank}: run {folder.id} trains in {ranks} process{'es' if ranks > 1 else ''}",
            hint=f"ranks are counted from 0 to {ranks - 1}",
        )


def _print_log(log: BinaryIO, follow: RunFolder | None) -> None:
    """Print the lines of a log from its present position.

    Args:
        log: opened in binary mode.
        follow: the run whose end ends the printing; None prints what there is.
    """
    pending = b""
    while True:
        # The status is read before the log: lines that were written before the run ended are then still read.
        over = follow is None or status_of(follow).over
        while block := log.read(_BLOCK_BYTES):
            *whole, pending = (pending + block).split(b"\n")
            for line in whole:
                _print_line(line)
        if over:
            break
        time.sleep(_POLL_SECONDS)
    if pending:
        _print_line(pending)


def _print_line(line: bytes) -> None:
    """Print a line as a terminal would show it: of text overwritten after carriage returns, the last version."""
    versions = [version for version in line.decode("utf-8", "replace").split("\r") if version.strip()]
    click.echo(printable(versions[-1]) if versions else "")


def _seek_last_lines(log: BinaryIO, lines: int) -> None:
    """Seek to the beginning of the last ``lines`` lines, reading blocks from the end."""
    position = end = log.seek(0, os.SEEK_END)
    tail = b""
    while position > 0 and tail.count(b"\n") <= lines:
        start = max(0, position - _BLOCK_BYTES)
        log.seek(start)
        tail = log.read(position - start) + tail
        position = start
    pieces = tail.split(b"\n")
    # A line feed at the very end closes the last line and does not begin another.
    count = lines + 1 if pieces[-1] == b"" else lines
    log.seek(end - len(b"\n".join(pieces[-count:])) if count else end)
