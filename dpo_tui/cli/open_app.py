"""`dpo-tui` without a command, `dpo-tui attach` and `dpo-tui watch`: start the app in this terminal."""

import gc
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dpo_tui.cli.run_argument import RUN
from dpo_tui.errors import UsageError
from dpo_tui.processes.timed_call import is_waiting

if TYPE_CHECKING:
    from dpo_tui.views.run_feed import Feed


_PATIENCE = 5.0
"""Seconds for which threads of the app may go on after it."""


def can_show_app() -> bool:
    """Whether this terminal can show the app."""
    # Textual draws on stderr.
    terminals = all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    return terminals and os.environ.get("TERM", "dumb") not in ("dumb", "")


def open_app(feed: "Feed | None" = None, *, until_end: bool = False) -> None:
    """Run the app in this terminal.

    Args:
        feed: open at the monitor of this run or folder.
        until_end: exit when the watched run has ended.

    Raises:
        UsageError: there is no terminal that can show it.
    """
    if not can_show_app():
        raise UsageError("the app needs a terminal; `dpo-tui runs` lists the runs without one.")
    # Garbage collection while modules are imported frees nothing and takes a tenth of the time to the first paint. The
    # app enables it again (`dpo_tui.app`).
    gc.disable()
    if feed is not None:
        # Read up to a megabyte of the metrics first, so that the first paint has charts and need not be repeated.
        feed.poll(time.time())
    # nohup has SIGHUP ignored, and ignored signals are inherited: the default action must be back, or the app outlives
    # its terminal and spins on reads of a closed descriptor.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    from dpo_tui.app import DpoTui

    run_and_leave(DpoTui(feed, until_end=until_end))


def run_and_leave(app: Any, **options: Any) -> None:
    """Run an app, and end with it: what its threads still do is waited for a few seconds, and no longer.

    A thread that waits for a driver that hangs is not waited for at all.

    `App.run` waits without end for threads, which Python cannot stop: one that reads data for hours, or a driver that
    hangs, would hold a terminal in which nothing is shown any more.

    Args:
        app: what to run, an app of Textual's.
        **options: of ``App.run_async``.
    """
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    runner = asyncio.Runner()
    threads = ThreadPoolExecutor(thread_name_prefix="app")
    runner.get_loop().set_default_executor(threads)
    runner.run(app.run_async(**options))
    threads.shutdown(wait=False, cancel_futures=True)
    deadline = time.monotonic() + _PATIENCE
    others = [one for one in threading.enumerate() if one is not threading.current_thread() and not one.daemon]
    for thread in others:
        if not is_waiting(thread):
            thread.join(max(0.0, deadline - time.monotonic()))
    if any(thread.is_alive() for thread in others):
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # Children end with this process, and files are replaced as a whole: nothing is left half done.
        os._exit(0)
    runner.close()


@click.command()
@click.argument("run", type=RUN, default="last")
def attach(run: str) -> None:
    """Watch a run in the app. RUN is an id, a unique prefix of it, a name, or `last`."""
    from dpo_tui.groups.group_store import find_run
    from dpo_tui.views.run_feed import RunFeed

    open_app(RunFeed(find_run(run)))


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
def watch(path: Path) -> None:
    """Watch a run folder, or the output folder of any Hugging Face Trainer."""
    from dpo_tui.views.open_feed import open_feed

    open_app(open_feed(path))
