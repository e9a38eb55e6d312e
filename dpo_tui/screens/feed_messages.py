"""Reading of run feeds in a worker thread, which posts what it read to its screen as `FeedRead` messages."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from textual.message import Message

from dpo_tui.views.feed_reader import FeedReader
from dpo_tui.views.run_feed import FeedChange
from dpo_tui.widgets.full_screen import FullScreen


class FeedRead(Message, bubble=False):
    """Posted to a screen by its reading thread; the screen must call ``reader.take(change)``, or reading stops there.

    Attributes:
        reader: the reader of the feed.
        change: what is new in the feed.
    """

    def __init__(self, reader: FeedReader[Any], change: FeedChange) -> None:
        super().__init__()
        self.reader = reader
        self.change = change


def read_feeds(screen: FullScreen, readers: Sequence[FeedReader[Any]]) -> None:
    """Read what is new in one thread, and post a `FeedRead` for each feed that changed.

    A screen calls this at an interval, and after each `FeedRead` while a feed is still catching up with its history.
    Nothing is started while one of the feeds is being read: a screen has one reading thread however many its feeds.

    Args:
        screen: receives the messages, and shows in a dialog what a reader raises.
        readers: the readers of its feeds.
    """
    if any(reader.busy for reader in readers):
        return
    now = time.time()
    if started := [reader for reader in readers if reader.begin(now)]:
        screen.run_worker(partial(_read, screen, started), thread=True, group="feeds", exit_on_error=False)


def _read(screen: FullScreen, readers: Sequence[FeedReader[Any]]) -> None:
    failure: Exception | None = None
    for reader in readers:
        try:
            change = reader.read(time.time())
        except Exception as error:
            # Raised after the loop: the readers behind this one were begun too, and stay locked until they are read.
            failure = error
        else:
            screen.post_message(FeedRead(reader, change))
    if failure is not None:
        raise failure
