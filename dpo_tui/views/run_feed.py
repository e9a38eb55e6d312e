"""A run as it grows: its metrics as series, its status and its events, read incrementally from its files.

Reading and merging are separate, since a long history is read in a thread while the screen draws: `Feed.read` reads
files and changes nothing that is drawn; `Feed.take` merges the result in the thread that draws. No read may begin while
another is not merged yet: `dpo_tui.screens.feed_reader` ensures that, and posts what a thread has read to the screen.
Next: `dpo_tui.screens.monitor_screen`.
"""

import os
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from math import isfinite, nan
from pathlib import Path
from typing import Any, Protocol

import orjson

from dpo_tui.errors import RunError
from dpo_tui.runs.atomic_files import parse_line
from dpo_tui.runs.complete_checkpoints import newest_complete
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.metrics_reader import MetricsTail
from dpo_tui.runs.status_names import LIVE, OVER, RESUMABLE
from dpo_tui.runs.summary import summary, worst_advice
from dpo_tui.views.series import Series

CHUNK = 1 << 20
"""Bytes of metrics read at a time, so that a long history is drawn while it is read."""
LIVENESS_INTERVAL = 5.0
"""Seconds between two checks whether a run is alive while none of its files changes."""
ENDED_INTERVAL = 60.0
"""The same for a run that has ended."""
OPENING = "opening"
"""The status of a run before its files were read."""
EVENTS_KEPT = 2000
"""Newest events kept in memory."""
_NO_METRIC = frozenset({"t", "step", "epoch"})

Columns = Mapping[str, "tuple[array[float], array[float]]"]
"""(steps, values) of each metric, in the order in which they were logged."""


@dataclass(frozen=True, slots=True)
class FeedChange:
    """The result of one `Feed.read`. Nothing in it changes afterwards.

    Attributes:
        columns: the new points.
        replaced: whether the log is another file than before, so that earlier points are to be dropped.
        growth: the points of the whole history divided by those read so far, estimated from file sizes; 1 when unknown.
        about: the summary of the run; None when it was not read.
        events: all events kept, newest last; None when there are no new ones.
        catching_up: whether more history is left to read.
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
    """A source of metrics that screens show while it grows: a run folder, or the output folder of another trainer.

    Attributes:
        title: the name to show.
        series: values by metric name.
        latest: the latest value of each metric.
        about: the summary of the run, with the keys of `dpo_tui.runs.summary.summary`; of a run of ours that
            is over also ``has_result``, and where it can be resumed ``resumes_from``: a checkpoint, empty without one.
        events: newest last, each with ``t``, ``kind`` and ``message``.
        log: path of its text log, which may not exist.
        catching_up: whether more history is left to read.
    """

    title: str
    series: dict[str, Series]
    latest: dict[str, float]
    about: dict[str, Any]
    events: list[dict[str, Any]]
    log: Path
    catching_up: bool

    def has_news(self, now: float) -> bool:
        """Whether there may be something to `read`; costs a few calls of ``stat``."""

    def read(self, now: float) -> FeedChange:
        """Read what is new. Changes nothing that a screen shows; the result must be merged before the next read."""

    def take(self, change: FeedChange) -> bool:
        """Merge a change, in the thread that draws.

        Returns:
            Whether anything shown may differ.
        """

    def poll(self, now: float) -> bool:
        """Read and merge in one thread."""


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
        self._metrics = MetricsTail(folder.metrics, parse_metrics_line)
        self._restarts = 0
        self._advice: dict[str, Any] | None = None
        self._tails = (MetricsTail(folder.events), MetricsTail(folder.supervisor_log))
        self._events: list[dict[str, Any]] = []
        self._file_states: tuple[tuple[int, int], ...] = ()
        self._summarised_at = 0.0

    def has_news(self, now: float) -> bool:
        """Whether a file changed, history is left to read, or the run is to be checked for being alive."""
        return self.catching_up or self._is_summary_due(now) or self._stat_files() != self._file_states

    def _is_summary_due(self, now: float) -> bool:
        interval = ENDED_INTERVAL if self.about.get("status") in OVER else LIVENESS_INTERVAL
        return abs(now - self._summarised_at) >= interval  # the clock may have been set back for hours

    def read(self, now: float) -> FeedChange:
        """Read what is new, at most `CHUNK` bytes of metrics; read again while `catching_up`."""
        # Before the files are read: what is written meanwhile is then a change at the next look, and not missed.
        file_states = self._stat_files()
        changed = file_states != self._file_states
        self._file_states = file_states
        events = self._read_events() if changed else None
        about = None
        if changed or self._is_summary_due(now):
            self._summarised_at = now
            about = self._summary(now)
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
        """Merge a change."""
        changed = merge(self, change)
        self.title = str(self.about.get("name") or self.folder.id)
        return changed

    def poll(self, now: float) -> bool:
        """Read and merge in one thread."""
        return self.take(self.read(now))

    def _stat_files(self) -> tuple[tuple[int, int], ...]:
        folder = self.folder
        logs = (folder.metrics, folder.events, folder.supervisor_log)
        watched = (*logs, folder.progress, folder.state, folder.given_name, folder.control)
        return tuple(_file_state(path) for path in watched)

    def _summary(self, now: float) -> dict[str, Any]:
        try:
            about = {**summary(self.folder, now=now, brief=True), "advice": self._advice}
        except RunError as error:
            return {"id": self.folder.id, "status": "unknown", "reason": error.message}
        if about["status"] in LIVE and (about.get("ranks") or 1) > 1:
            from dpo_tui.runs.ranks import read_reports  # most runs have one process

            about["rank_reports"] = [asdict(one) for one in read_reports(self.folder)]
        if about["status"] in RESUMABLE:
            newest, _ = newest_complete(self.folder.checkpoints)
            about["resumes_from"] = newest.name if newest is not None else ""
            if about.get("launcher") == "slurm":
                from dpo_tui.runs.launchers.slurm_job import request_after  # most runs are no job

                about["resumes_with"] = request_after(self.folder, str(about.get("reason") or ""))
        if about["status"] in OVER:
            about["has_result"] = self.folder.has_result
        return about

    def _growth(self) -> float:
        """The size of the log divided by what was read of it."""
        try:
            return self.folder.metrics.stat().st_size / max(self._metrics.offset, 1)
        except OSError:
            return 1.0

    def _read_events(self) -> list[dict[str, Any]] | None:
        """The events of the worker and of the supervisor by time; None when there are no new ones."""
        fresh = [event for tail in self._tails for event in tail.poll()]
        if not fresh:
            return None
        self._advice = worst_advice(self.folder)
        ordered = sorted((*self._events, *fresh), key=lambda event: finite_number(event.get("t")) or 0.0)
        self._events = ordered[-EVENTS_KEPT:]
        return self._events


def merge(feed: Feed, change: FeedChange) -> bool:
    """Merge a change into the public attributes of a feed.

    A diagnosis may iterate over them in another thread: containers grow or are replaced, none is cleared or sorted.

    Returns:
        Whether anything shown may differ.
    """
    changed = change.changed or change.catching_up
    # The log was replaced, as by a resume from an earlier step. New dicts: a thread may iterate over the old ones.
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
    """Log lines as (steps, values) of each metric. For speed, lines with the same keys are transposed together."""
    usable = (line for line in lines if finite_number(line.get("step")) is not None)
    found: dict[str, tuple[array[float], array[float]]] = {}
    for names, lines_of_kind in groupby(usable, key=tuple):
        columns = dict(zip(names, zip(*(line.values() for line in lines_of_kind), strict=True), strict=True))
        for name in names:
            steps, values = _points(columns["step"], columns[name])
            if values and name not in _NO_METRIC:
                before = found.setdefault(name, (array("d"), array("d")))
                before[0].extend(steps)
                before[1].extend(values)
    return found


def _points(steps: Sequence[Any], column: Sequence[Any]) -> "tuple[array[float], array[float]]":
    """The numbers of a column and their steps; null is read as NaN, which JSON lacks. Other values are dropped."""
    try:
        return array("d", steps), array("d", column)
    except (TypeError, OverflowError):  # some are not numbers
        points = [
            (float(step), nan if value is None else float(value))
            for step, value in zip(steps, column, strict=True)
            if value is None or isinstance(value, float) or finite_number(value) is not None
        ]
    return array("d", [step for step, _ in points]), array("d", [value for _, value in points])


def parse_metrics_line(line: bytes) -> dict[str, Any] | None:
    """Parse a log line with orjson; with the standard parser where it fails, since that reads NaN and Infinity."""
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        return parse_line(line)
    return document if isinstance(document, dict) else None


def finite_number(value: object) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if isfinite(value) else None
    except OverflowError:  # an integer beyond every float
        return None


def _file_state(path: Path) -> tuple[int, int]:
    """Time of the last change in ns and size in bytes; a missing file has none."""
    try:
        status = os.stat(path)
    except OSError:
        return (0, -1)
    return (status.st_mtime_ns, status.st_size)
