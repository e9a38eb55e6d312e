"""One run as it grows: its metrics as series, its state, its events. Reads files only, and only what is new."""

import os
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from math import isfinite, nan
from pathlib import Path
from typing import Any, Protocol

import orjson

from dpo_tui.errors import RunError
from dpo_tui.runs.files import parse_line
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.metrics import MetricsTail
from dpo_tui.runs.statuses import OVER
from dpo_tui.runs.summary import summary, worst_advice
from dpo_tui.widgets.series import Series

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
        """Whether a `poll` is worth its while; costs a few looks at file times."""

    def poll(self, now: float) -> bool:
        """Read what is new and say whether there was anything."""


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
        self._marks: tuple[tuple[int, int], ...] = ()
        self._looked = 0.0

    def has_news(self, now: float) -> bool:
        """Whether a file changed, history is still being read, or it is time to see whether the run still lives."""
        return self.catching_up or now - self._looked >= self._patience or self._watermarks() != self._marks

    @property
    def _patience(self) -> float:
        return AFTERLIFE if self.about.get("status") in OVER else LIVENESS

    def poll(self, now: float) -> bool:
        """Read what is new; about a megabyte of metrics at most, so call again while `catching_up`."""
        marks = self._watermarks()
        changed = marks != self._marks
        if changed:
            self._marks = marks
            self._read_events()
        if changed or now - self._looked >= self._patience:
            self._looked = now
            changed = self._look(now) or changed
        if changed or self.catching_up:
            self._read_metrics()
        return changed or self.catching_up

    def _watermarks(self) -> tuple[tuple[int, int], ...]:
        folder = self.folder
        logs = (folder.metrics, folder.events, folder.supervisor_log)
        watched = (*logs, folder.progress, folder.state, folder.given_name, folder.control)
        return tuple(_mark(path) for path in watched)

    def _look(self, now: float) -> bool:
        try:
            about = {**summary(self.folder, now=now, brief=True), "advice": self._advice}
        except RunError as error:
            about = {"id": self.folder.id, "status": "unknown", "reason": error.message}
        changed = about != self.about
        self.about = about
        self.title = str(about.get("name") or self.folder.id)
        return changed

    def _read_metrics(self) -> None:
        before = self._metrics.offset
        lines = self._metrics.poll(max_bytes=CHUNK)
        if self._metrics.restarts != self._restarts:
            self._restarts = self._metrics.restarts
            self.series.clear()
            self.latest.clear()
        take(lines, self.series, self.latest)
        self.catching_up = self._metrics.offset - before >= CHUNK
        if self.catching_up and not before:
            self._expect()

    def _expect(self) -> None:
        """From the first chunk, tell each series about how many points are still to come."""
        try:
            whole = self.folder.metrics.stat().st_size / max(self._metrics.offset, 1)
        except OSError:
            return
        for series in self.series.values():
            series.expect(len(series) * whole)

    def _read_events(self) -> None:
        fresh = [event for tail in self._tails for event in tail.poll()]
        if fresh:
            self._advice = worst_advice(self.folder)
            self.events += fresh
            self.events.sort(key=lambda event: number(event.get("t")) or 0.0)
            del self.events[:-EVENTS_KEPT]


def read_through(feeds: Sequence[Feed], pause: float = 1.0) -> Iterator[bool]:
    """Poll feeds until they have caught up with their history.

    Args:
        feeds: what to read; needs a thread.
        pause: seconds between two yields while there is more, which is when a screen may draw what has come so far.

    Yields:
        Whether something is new since the last yield: the first chunk at once, then now and then, and at the end.
    """
    changed, told = False, float("-inf")
    while True:
        for feed in feeds:
            changed = feed.poll(time.time()) or changed
        more = any(feed.catching_up for feed in feeds)
        if not more or time.monotonic() - told >= pause:
            yield changed
            changed, told = False, time.monotonic()
        if not more:
            return
        time.sleep(0.001)  # let the screen have the interpreter


def take(lines: Iterable[dict[str, Any]], series: dict[str, Series], latest: dict[str, float]) -> None:
    """Add log lines to series, making one for each new metric. Lines of one kind are taken column by column."""
    usable = (line for line in lines if number(line.get("step")) is not None)
    taken: dict[str, tuple[array[float], array[float]]] = {}
    for names, alike in groupby(usable, key=tuple):
        columns = dict(zip(names, zip(*(line.values() for line in alike), strict=True), strict=True))
        for name in names:
            steps, values = _points(columns["step"], columns[name])
            if values and name not in _NO_METRIC:
                before = taken.setdefault(name, (array("d"), array("d")))
                before[0].extend(steps)
                before[1].extend(values)
    for name, (steps, values) in taken.items():
        series.setdefault(name, Series(name)).extend(steps, values)
        latest[name] = values[-1]


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
