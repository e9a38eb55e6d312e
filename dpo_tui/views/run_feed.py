"""One run as it grows: its metrics as series, its state, its events. Reads files only, and only what is new.

Reading and merging are two steps, since a long history is read in a thread while the screen draws: `Feed.read` looks at
files and changes nothing that is drawn; `Feed.take` merges what was read, in the thread that draws. No other read may
begin from the start of one until it is taken: `dpo_tui.views.feed_reader.FeedReader` sees to that.
"""

import os
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from math import isfinite, nan
from pathlib import Path
from typing import Any, Protocol

import orjson

from dpo_tui.errors import RunError
from dpo_tui.runs.atomic_files import parse_line
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.metrics import MetricsTail
from dpo_tui.runs.statuses import OVER
from dpo_tui.runs.summary import summary, worst_advice
from dpo_tui.views.series import Series

CHUNK = 1 << 20
"""Bytes of metrics read at a time, so that a long history is drawn as it comes."""
LIVENESS = 5.0
"""Seconds between two looks at whether the run is still alive when no file changes."""
AFTERLIFE = 60.0
"""The same for a run that has ended."""
OPENING = "opening"
"""The status of a run that nobody has looked at yet."""
EVENTS_KEPT = 2000
_NO_METRIC = frozenset({"t", "step", "epoch"})

Columns = Mapping[str, "tuple[array[float], array[float]]"]
"""Steps and values of each metric, in the order in which they were logged."""


@dataclass(frozen=True, slots=True)
class FeedChange:
    """What one `Feed.read` found. Nothing in it is changed after the read.

    Attributes:
        columns: the new points.
        replaced: whether the log turned out to be another one, so that earlier points do not count.
        growth: how many times as many points each series will have when the whole history is read, as far as its size
            tells; 1 when that is unknown or done.
        about: what is known about the run now; None when nobody looked.
        events: all that are kept, newest last; None when there are no new ones.
        catching_up: whether history is still to be read.
        changed: whether a file changed.
    """

    columns: Columns = field(default_factory=dict)
    replaced: bool = False
    growth: float = 1.0
    about: dict[str, Any] | None = None
    events: list[dict[str, Any]] | None = None
    catching_up: bool = False
    changed: bool = False


class Feed(Protocol):
    """What a screen may show live: a run of ours, or another trainer's output folder.

    Attributes:
        title: what to call it.
        series: values by metric name.
        latest: the latest value of each metric.
        about: what is known about the run, with the keys of `dpo_tui.runs.store.summary`.
        events: newest last, each with ``t``, ``kind`` and ``message``.
        log: its text log, which may not exist.
        catching_up: whether history is still being read.
    """

    title: str
    series: dict[str, Series]
    latest: dict[str, float]
    about: dict[str, Any]
    events: list[dict[str, Any]]
    log: Path
    catching_up: bool

    def has_news(self, now: float) -> bool:
        """Whether a `read` is worth its while; costs a few looks at file times."""

    def read(self, now: float) -> FeedChange:
        """Read what is new; changes nothing that a screen shows. Each change must be taken before the next read."""

    def take(self, change: FeedChange) -> bool:
        """Merge what was read, in the thread that draws, and say whether anything shown may differ."""

    def poll(self, now: float) -> bool:
        """Read and take at once, where one thread does both."""


class RunFeed:
    """A run folder as a `Feed`.

    Args:
        folder: the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.title = folder.id
        self.series: dict[str, Series] = {}
        self.latest: dict[str, float] = {}
        self.about: dict[str, Any] = {"id": folder.id, "status": OPENING}
        self.events: list[dict[str, Any]] = []
        self.log = folder.train_log
        self.catching_up = True
        self._metrics = MetricsTail(folder.metrics, _parse)
        self._restarts = 0
        self._advice: dict[str, Any] | None = None
        self._tails = (MetricsTail(folder.events), MetricsTail(folder.supervisor_log))
        self._events: list[dict[str, Any]] = []
        self._marks: tuple[tuple[int, int], ...] = ()
        self._looked = 0.0

    def has_news(self, now: float) -> bool:
        """Whether a file changed, history is still being read, or it is time to see whether the run still lives."""
        return self.catching_up or now - self._looked >= self._patience or self._watermarks() != self._marks

    @property
    def _patience(self) -> float:
        return AFTERLIFE if self.about.get("status") in OVER else LIVENESS

    def read(self, now: float) -> FeedChange:
        """Read what is new; about a megabyte of metrics at most, so read again while `catching_up`."""
        marks = self._watermarks()
        changed = marks != self._marks
        self._marks = marks
        events = self._read_events() if changed else None
        about = None
        if changed or now - self._looked >= self._patience:
            self._looked = now
            about = self._look(now)
        if not (changed or self.catching_up):
            return FeedChange(about=about)
        before = self._metrics.offset
        lines = self._metrics.poll(max_bytes=CHUNK)
        replaced, self._restarts = self._metrics.restarts != self._restarts, self._metrics.restarts
        catching_up = self._metrics.offset - before >= CHUNK
        return FeedChange(
            columns=columns_of(lines),
            replaced=replaced,
            growth=self._growth() if catching_up and not before else 1.0,
            about=about,
            events=events,
            catching_up=catching_up,
            changed=changed,
        )

    def take(self, change: FeedChange) -> bool:
        """Merge what was read."""
        changed = merge(self, change)
        self.title = str(self.about.get("name") or self.folder.id)
        return changed

    def poll(self, now: float) -> bool:
        """Read and take at once, where one thread does both."""
        return self.take(self.read(now))

    def _watermarks(self) -> tuple[tuple[int, int], ...]:
        folder = self.folder
        logs = (folder.metrics, folder.events, folder.supervisor_log)
        watched = (*logs, folder.progress, folder.state, folder.given_name, folder.control)
        return tuple(_mark(path) for path in watched)

    def _look(self, now: float) -> dict[str, Any]:
        try:
            return {**summary(self.folder, now=now, brief=True), "advice": self._advice}
        except RunError as error:
            return {"id": self.folder.id, "status": "unknown", "reason": error.message}

    def _growth(self) -> float:
        """By the size of the log, how many times as many points there are as the first chunk holds."""
        try:
            return self.folder.metrics.stat().st_size / max(self._metrics.offset, 1)
        except OSError:
            return 1.0

    def _read_events(self) -> list[dict[str, Any]] | None:
        fresh = [event for tail in self._tails for event in tail.poll()]
        if not fresh:
            return None
        self._advice = worst_advice(self.folder)
        ordered = sorted((*self._events, *fresh), key=lambda event: number(event.get("t")) or 0.0)
        self._events = ordered[-EVENTS_KEPT:]
        return self._events


def merge(feed: Feed, change: FeedChange) -> bool:
    """Merge a change into the public attributes of a feed.

    Containers that another thread may walk through (a diagnosis does) grow or are replaced; none is emptied or sorted.

    Returns:
        Whether anything shown may differ.
    """
    changed = change.changed or change.catching_up
    if change.replaced:
        feed.series, feed.latest = {}, {}
    for name, (steps, values) in change.columns.items():
        feed.series.setdefault(name, Series(name)).extend(steps, values)
        feed.latest[name] = values[-1]
    if change.growth > 1:
        for series in feed.series.values():
            series.expect(len(series) * change.growth)
    if change.about is not None and change.about != feed.about:
        feed.about, changed = change.about, True
    if change.events is not None:
        feed.events = change.events
    feed.catching_up = change.catching_up
    return changed


def columns_of(lines: Iterable[dict[str, Any]]) -> Columns:
    """Log lines as steps and values of each metric. Lines of one kind are taken column by column."""
    usable = (line for line in lines if number(line.get("step")) is not None)
    found: dict[str, tuple[array[float], array[float]]] = {}
    for names, alike in groupby(usable, key=tuple):
        columns = dict(zip(names, zip(*(line.values() for line in alike), strict=True), strict=True))
        for name in names:
            steps, values = _points(columns["step"], columns[name])
            if values and name not in _NO_METRIC:
                before = found.setdefault(name, (array("d"), array("d")))
                before[0].extend(steps)
                before[1].extend(values)
    return found


def _points(steps: Sequence[Any], column: Sequence[Any]) -> "tuple[array[float], array[float]]":
    """Return what of a column are numbers, with their steps; null is NaN, as JSON writers without NaN mean it."""
    try:
        return array("d", steps), array("d", column)
    except (TypeError, OverflowError):  # not numbers all
        points = [
            (float(step), nan if value is None else float(value))
            for step, value in zip(steps, column, strict=True)
            if value is None or isinstance(value, float) or number(value) is not None
        ]
    return array("d", [step for step, _ in points]), array("d", [value for _, value in points])


def _parse(line: bytes) -> dict[str, Any] | None:
    """Parse a line the fast way, and NaN and whatever else JSON does not have as the others do."""
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        return parse_line(line)
    return document if isinstance(document, dict) else None


def number(value: object) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if isfinite(value) else None
    except OverflowError:  # an integer beyond every float
        return None


def _mark(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (0, -1)
    return (status.st_mtime_ns, status.st_size)
