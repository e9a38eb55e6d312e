"""Feeds read in a thread, and what was read posted to the screen as messages."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from textual.message import Message

from dpo_tui.views.feed_reader import FeedReader
from dpo_tui.views.run_feed import FeedChange
from dpo_tui.widgets.full_screen import FullScreen


class FeedRead(Message, bubble=False):
    """Something was read for a screen, which has to call ``reader.take(change)``.

    Attributes:
        reader: whose feed it is.
        change: what is new.
    """

    def __init__(self, reader: FeedReader[Any], change: FeedChange) -> None:
        super().__init__()
        self.reader = reader
        self.change = change


def read_feeds(screen: FullScreen, readers: Sequence[FeedReader[Any]]) -> None:
    """Read what is new in one thread, and post a `FeedRead` for each feed with news.

    Nothing is begun while one of them is being read: a screen has one reading thread however many feeds it shows. A
    screen calls this now and then, and after each `FeedRead` while history is left.
    """
    if any(reader.busy for reader in readers):
        return
    now = time.time()
    if begun := [reader for reader in readers if reader.begin(now)]:
        screen.run_worker(partial(_read, screen, begun), thread=True, group="feeds", exit_on_error=False)


def _read(screen: FullScreen, readers: Sequence[FeedReader[Any]]) -> None:
    failure: Exception | None = None
    for reader in readers:
        try:
            change = reader.read(time.time())
        except Exception as error:
            failure = error
        else:
            screen.post_message(FeedRead(reader, change))
    if failure is not None:
        raise failure
