"""The one reader of a feed: whoever else asks while a read is under way gets none, so that no line is read twice."""

import time
from threading import Lock
from typing import Generic, TypeVar

from dpo_tui.views.run_feed import Feed, FeedChange

PAUSE = 1.0
"""Seconds between two times that a screen should draw while a long history comes in."""

FeedT = TypeVar("FeedT", bound=Feed)


class FeedReader(Generic[FeedT]):
    """Reads a feed from any thread, one read at a time, and merges each before the next begins.

    A read has three steps: `begin`, by whoever wants one; `read`, in a thread; `take`, in the thread that draws. From a
    successful `begin` until `take` the reader is busy, so changes can neither be read twice, overtake each other, nor
    pile up in front of a screen that draws slowly.

    Args:
        feed: what to read. Nobody else may read it.
        pause: seconds between two times that `take` asks for drawing while history comes in.
    """

    def __init__(self, feed: FeedT, pause: float = PAUSE) -> None:
        self.feed = feed
        self._pause = pause
        # Acquired by the thread that begins a read and released by the one that takes it: a Lock allows that, an RLock
        # does not.
        self._turn = Lock()
        self._changed = False
        self._asked_to_draw = float("-inf")

    @property
    def busy(self) -> bool:
        """Whether a read was begun and is not taken yet."""
        return self._turn.locked()

    def begin(self, now: float) -> bool:
        """Whether there is news and nobody else reads; then `read` and `take` must follow."""
        if not self._turn.acquire(blocking=False):
            return False
        if self.feed.has_news(now):
            return True
        self._turn.release()
        return False

    def read(self, now: float) -> FeedChange:
        """Read what is new, after a successful `begin`."""
        try:
            return self.feed.read(now)
        except BaseException:
            self._turn.release()
            raise

    def take(self, change: FeedChange) -> bool:
        """Merge what was read, and let the next read begin.

        Returns:
            Whether to draw: the first part of a long history at once, then now and then, and what came last.
        """
        try:
            self._changed = self.feed.take(change) or self._changed
        finally:
            self._turn.release()
        now = time.monotonic()
        if not self._changed or (self.feed.catching_up and now - self._asked_to_draw < self._pause):
            return False
        self._changed, self._asked_to_draw = False, now
        return True

    def poll(self, now: float) -> bool:
        """All three steps in this thread; False also when another one reads."""
        return self.begin(now) and self.take(self.read(now))
