"""Throughput of a run: the recent step time and the remaining time. Standard library only."""

from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

from dpo_tui.runs.atomic_files import lines_from_end, parse_line

_WINDOW = 20
"""Number of recent log lines used: enough for a steady median, few enough to follow a change."""
_TAIL = 1 << 16
"""Bytes of metrics.jsonl, from its end, that are searched for them."""


def step_seconds(metrics: Path, since: float | None) -> float | None:
    """The median time of a recent step, in seconds.

    Args:
        metrics: metrics.jsonl.
        since: Unix time when the current attempt started: earlier lines belong to another attempt, perhaps on another
            machine or with another micro-batch, and are not used.

    Returns:
        ``None`` until this attempt has logged a step time, or two steps to compute it from.
    """
    step_times: list[float] = []
    marks: list[tuple[float, float]] = []
    for line in lines_from_end(metrics, _TAIL):
        document = parse_line(line)
        if document is None:
            continue
        at = _number(document.get("t"))
        if since is not None and at is not None and at < since:
            break
        if (seconds := _number(document.get("step_seconds"))) is not None and seconds > 0:
            step_times.append(seconds)
        if at is not None and (step := _number(document.get("step"))) is not None:
            marks.append((step, at))
        if len(step_times) >= _WINDOW or len(marks) > 2 * _WINDOW:
            break
    return _median(step_times) if step_times else _from_marks(marks)


def eta_seconds(progress: dict[str, Any], throughput: float | None, *, since: float | None, now: float) -> float | None:
    """Seconds until the last step at the recent step time; the total time is not used, as a resume would distort it.

    Args:
        progress: progress.json.
        throughput: seconds a step, from `step_seconds`.
        since: when the current attempt started; an older progress.json is another attempt's.
        now: Unix time.
    """
    step, last, at = (_number(progress.get(key)) for key in ("step", "max_steps", "t"))
    if (
        throughput is None
        or step is None
        or last is None
        or at is None
        or last <= 0
        or (since is not None and at < since)
    ):
        return None
    return max(0.0, (last - step) * throughput - max(0.0, min(now - at, throughput)))


def _from_marks(marks: list[tuple[float, float]]) -> float | None:
    """The median over neighbouring log lines, newest first; for files without ``step_seconds`` (another trainer's)."""
    differences = [
        (later_at - at) / (later - step)
        for (later, later_at), (step, at) in pairwise(marks)
        if later > step and later_at > at
    ]
    return _median(differences) if differences else None


def _median(values: list[float]) -> float:
    """The median of a list that is not empty. The module `statistics` would slow the start of `dpo-tui runs`."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if isfinite(value) else None
