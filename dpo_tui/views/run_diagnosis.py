"""What the advice rules say about a run that is looked at: asked again when something arrived, and seldom.

One diagnosis reads up to a megabyte and costs about 35 ms, of a thousand steps as of a million, so the pause after it
grows with what it cost. Ours is the diagnosis of `dpo_tui.advice.diagnose`, word for word; another trainer's folder is
judged by the same rules on what numbers there are.
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
from dpo_tui.views.run_feed import Feed, RunFeed, number
from dpo_tui.views.series import Series

PAUSE = 5.0
"""Seconds between two diagnoses at least."""
SHARE = 1 / 1000
"""Of one core, what diagnoses may take: a tenth of a percent, of the two that watching a run may cost."""
POINTS = 1000
"""Points of each metric that a foreign run is judged by; the newest is always one of them."""
_SIGMOID_START = 0.95
"""A first loss above this is not DPO's own, which starts at 0.693 (hinge and apo_zero start at 1, ipo at 1 / 4β²)."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a diagnosis was made of, to tell whether there is more by now."""

    status: str
    points: int
    events: int


class PacedDiagnosis:
    """The newest diagnosis of a feed.

    Args:
        feed: what is judged.

    Attributes:
        found: worst first; empty before the first look.
    """

    def __init__(self, feed: Feed) -> None:
        self.found: tuple[Advice, ...] = ()
        self._feed = feed
        self._seen: _Seen | None = None
        self._next = 0.0

    def due(self, now: float) -> bool:
        """Whether something came since the last look, and that is long enough ago; an end is judged at once."""
        feed = self._feed
        if not (feed.series or feed.events) or (feed.catching_up and not isinstance(feed, RunFeed)):
            return False
        here = _look_at(feed)
        ended = self._seen is not None and here.status != self._seen.status
        return here != self._seen and (now >= self._next or ended)

    def look(self, now: float) -> bool:
        """Judge anew, and say whether the diagnosis is another one; needs a thread.

        Args:
            now: seconds of the clock that `due` is asked by.
        """
        began = time.thread_time()
        self._seen = _look_at(self._feed)
        before, self.found = self.found, tuple(apply_rules(evidence_of(self._feed)))
        self._next = now + max(PAUSE, (time.thread_time() - began) / SHARE)
        return before != self.found


def _look_at(feed: Feed) -> _Seen:
    points = sum(series.count for series in list(feed.series.values()))
    return _Seen(str(feed.about.get("status", "")), points, len(feed.events))


def evidence_of(feed: Feed) -> Evidence:
    """What the rules read: a run folder's files, or what a foreign folder tells."""
    if isinstance(feed, RunFeed):
        return read_evidence(feed.folder.path)
    series = dict(feed.series)
    steps = number(feed.about.get("max_steps"))
    return Evidence(
        settings=_settings(feed, series),
        metrics=_lines(series.items()),
        events=list(feed.events),
        max_steps=int(steps) if steps else None,
        over=feed.about.get("status") == "done",
    )


def _settings(feed: Feed, series: dict[str, Series]) -> dict[str, Any]:
    """What another trainer's numbers tell of its settings; what stays unknown counts as TRL's default."""
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
    """Series as log lines, one a step."""
    lines: dict[int, dict[str, Any]] = {}
    for name, values in series:
        for step, value in _points(values):
            lines.setdefault(int(step), {"step": int(step)})[name] = value
    return [lines[step] for step in sorted(lines)]


def _points(series: Series) -> list[tuple[float, float]]:
    points = list(series.buckets())
    every = -(-len(points) // POINTS) or 1
    return points[(len(points) - 1) % every :: every] if points else []
