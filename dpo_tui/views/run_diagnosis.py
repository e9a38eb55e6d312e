"""The diagnosis of a run that is shown: the advice rules applied again when the run has grown, at a limited rate.

One diagnosis reads up to a megabyte and takes about 35 ms, for a thousand steps as for a million; the pause after it is
proportional to the time it took. For a run folder the result is that of `dpo_tui.advice.diagnose`; for the folder of
another trainer the same rules judge the metrics that it has.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from dpo_tui.advice.advice import Advice
from dpo_tui.advice.diagnose import apply_rules
from dpo_tui.advice.evidence import Evidence, read_evidence
from dpo_tui.strategies.registry import recognise
from dpo_tui.views.foreign_feed import ForeignFeed
from dpo_tui.views.run_feed import Feed, RunFeed, finite_number
from dpo_tui.views.series import Series

PAUSE = 5.0
"""Shortest time between two diagnoses in seconds."""
SHARE = 1 / 1000
"""Share of one core that diagnoses may use; watching a run may use two percent in all."""
POINTS = 1000
"""Points of each metric that the rules get of another trainer's run, the newest included."""
_SIGMOID_START = 0.95
"""A first loss above this is not that of ``loss_type="sigmoid"``, which starts at ln 2 = 0.693.

Hinge and apo_zero start at 1, ipo at 1 / 4β².
"""


@dataclass(frozen=True, slots=True)
class _RunSize:
    """How much of a run there was at a diagnosis; a run of another size is judged again."""

    status: str
    points: int
    events: int


class ThrottledDiagnosis:
    """The newest diagnosis of a feed.

    Args:
        feed: the run to judge.

    Attributes:
        advice: the findings, worst first; empty before the first `update`.
    """

    def __init__(self, feed: Feed) -> None:
        self.advice: tuple[Advice, ...] = ()
        self._feed = feed
        self._judged: _RunSize | None = None
        self._updated_at = self._not_before = 0.0

    def due(self, now: float) -> bool:
        """Whether the run has grown since the last diagnosis and the pause is over; a new status ends the pause.

        Args:
            now: Unix time in seconds.
        """
        feed = self._feed
        if not (feed.series or feed.events) or (feed.catching_up and not isinstance(feed, RunFeed)):
            return False
        current = _size_of(feed)
        status_changed = self._judged is not None and current.status != self._judged.status
        pauses = self._updated_at <= now < self._not_before  # it is over, too, where the clock has been set back
        return current != self._judged and (status_changed or not pauses)

    def update(self, now: float) -> bool:
        """Judge the run. Call it from a thread.

        Args:
            now: the time that `due` was called with.

        Returns:
            Whether `advice` differs from before.
        """
        began = time.thread_time()
        self._judged = _size_of(self._feed)
        before, self.advice = self.advice, tuple(apply_rules(evidence_of(self._feed)))
        self._updated_at, self._not_before = now, now + max(PAUSE, (time.thread_time() - began) / SHARE)
        return before != self.advice


def _size_of(feed: Feed) -> _RunSize:
    points = sum(series.count for series in list(feed.series.values()))
    return _RunSize(str(feed.about.get("status", "")), points, len(feed.events))


def evidence_of(feed: Feed) -> Evidence:
    """The input of the advice rules: the files of a run folder, or the metrics of another trainer's folder."""
    if isinstance(feed, RunFeed):
        return read_evidence(feed.folder.path)
    series = dict(feed.series)
    steps = finite_number(feed.about.get("max_steps"))
    return Evidence(
        settings=_settings(feed, series),
        metrics=_lines(series.items()),
        events=list(feed.events),
        max_steps=int(steps) if steps else None,
        over=feed.about.get("status") == "done",
    )


def _settings(feed: Feed, series: dict[str, Series]) -> dict[str, Any]:
    """The settings of another trainer as far as its metrics show them; the rules assume TRL's defaults for others."""
    settings: dict[str, Any] = {"strategy": recognise(series).name}
    rates = [rate for _, rate in _points(series["learning_rate"])] if "learning_rate" in series else []
    if rates:
        settings["learning_rate"] = max(rates)
    losses = [loss for _, loss in _points(series["loss"]) if isfinite(loss)] if "loss" in series else []
    if losses and losses[0] > _SIGMOID_START:
        settings["loss_type"] = ["unknown"]
    if isinstance(feed, ForeignFeed):
        settings["use_lora"] = _has_adapter(feed.folder_path)
    return settings


def _has_adapter(folder: Path) -> bool:
    name = "adapter_config.json"
    return (folder / name).is_file() or any(folder.glob(f"checkpoint-*/{name}"))


def _lines(series: Iterable[tuple[str, Series]]) -> list[dict[str, Any]]:
    """Series as the log lines of ``metrics.jsonl``, one for each step."""
    lines: dict[int, dict[str, Any]] = {}
    for name, values in series:
        for step, value in _points(values):
            lines.setdefault(int(step), {"step": int(step)})[name] = value
    return [lines[step] for step in sorted(lines)]


def _points(series: Series) -> list[tuple[float, float]]:
    """(step, value) of at most `POINTS` buckets at equal distances, the last one included."""
    points = list(series.buckets())
    every = -(-len(points) // POINTS) or 1
    return points[(len(points) - 1) % every :: every] if points else []
