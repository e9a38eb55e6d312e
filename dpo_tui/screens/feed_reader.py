"""Reading of feeds in a worker thread: one read of a feed at a time, each merged by the screen that shows it.

`read_feeds` starts a thread, which reads new lines and posts them to the screen as `FeedRead`. The screen's handler calls
`FeedReader.take`, which merges them into the feed's series, and draws. Next: `dpo_tui.screens.monitor_screen`
(``on_feed_read``).
"""

import time
from collections.abc import Sequence
from functools import partial
from threading import Lock
from typing import Any, Generic, TypeVar

from textual.message import Message

from dpo_tui.views.run_feed import Feed, FeedChange
from dpo_tui.widgets.full_screen import FullScreen

PAUSE = 1.0
"""Seconds between two redraws while a long history is read."""

FeedT = TypeVar("FeedT", bound=Feed)


class FeedReader(Generic[FeedT]):
    """Reads a feed in a thread, one read at a time, each merged before the next begins.

    A read has three steps: `begin`, in any thread; `read`, in a worker thread; `take`, in the thread that draws. From a
    successful `begin` until `take` the reader is busy, so changes are neither read twice nor merged out of order, and
    do not queue up for a screen that draws slowly.

    Args:
        feed: what to read. Nothing else may read it.
        pause: seconds between two redraws that `take` asks for while history is read.
    """

    def __init__(self, feed: FeedT, pause: float = PAUSE) -> None:
        self.feed = feed
        self._pause = pause
        # Acquired by the thread that begins a read and released by the one that takes it: a Lock allows that, an RLock
        # belongs to one thread.
        self._reading = Lock()
        self._changed = False
        self._drawn_at = float("-inf")

    @property
    def busy(self) -> bool:
        """Whether a read has begun and its change is not merged yet."""
        return self._reading.locked()

    def begin(self, now: float) -> bool:
        """Begin a read if there is something to read and no other read is in progress.

        Args:
            now: Unix time in seconds.

        Returns:
            Whether a read has begun; `read` and `take` must follow then.
        """
        if not self._reading.acquire(blocking=False):
            return False
        if self.feed.has_news(now):
            return True
        self._reading.release()
        return False

    def read(self, now: float) -> FeedChange:
        """Read what is new, after a successful `begin`. If it raises, the read is over.

        Args:
            now: Unix time in seconds.
        """
        try:
            return self.feed.read(now)
        except BaseException:
            self._reading.release()
            raise

    def take(self, change: FeedChange) -> bool:
        """Merge what was read; the next read may begin then.

        Returns:
            Whether to draw: the first chunk of a long history at once, further ones every ``pause`` seconds, and the
            last one at once.
        """
        try:
            self._changed = self.feed.take(change) or self._changed
        finally:
            self._reading.release()
        now = time.monotonic()
        if not self._changed or (self.feed.catching_up and now - self._drawn_at < self._pause):
            return False
        self._changed, self._drawn_at = False, now
        return True

    def poll(self, now: float) -> bool:
        """All three steps in this thread; False also when another thread is reading."""
        return self.begin(now) and self.take(self.read(now))


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
