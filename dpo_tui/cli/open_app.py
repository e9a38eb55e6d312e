"""The app from the command line: `dpo-tui` itself, `attach`, `watch`."""

import gc
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dpo_tui.errors import UsageError

if TYPE_CHECKING:
    from dpo_tui.views.run_feed import Feed


def can_show_app() -> bool:
    """Whether this terminal can show the app."""
    # Textual draws on stderr.
    terminals = all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    return terminals and os.environ.get("TERM", "dumb") not in ("dumb", "")


def open_app(feed: "Feed | None" = None, *, until_end: bool = False) -> None:
    """Run the app in this terminal.

    Args:
        feed: open at the monitor of this run or folder.
        until_end: leave by itself when the watched run has ended.

    Raises:
        UsageError: there is no terminal that can show it.
    """
    if not can_show_app():
        raise UsageError("the app needs a terminal; `dpo-tui runs` lists the runs without one.")
    # Nothing that is imported or built until the first paint is garbage: looking for some costs a tenth of the start.
    # The app turns the collector on again.
    gc.disable()
    if feed is not None:
        # A first look, a megabyte of a log at most, so that the first paint has charts and is not painted twice.
        feed.poll(time.time())
    from dpo_tui.app import run_app

    run_app(feed, until_end=until_end)


@click.command()
@click.argument("run", default="last")
def attach(run: str) -> None:
    """Watch a run in the app. RUN is an id, a unique prefix of it, a name, or `last`."""
    from dpo_tui.runs import store
    from dpo_tui.views.run_feed import RunFeed

    open_app(RunFeed(store.find(run)))


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
def watch(path: Path) -> None:
    """Watch a run folder, or the output folder of any Hugging Face Trainer."""
    from dpo_tui.views.open_feed import open_feed

    open_app(open_feed(path))
