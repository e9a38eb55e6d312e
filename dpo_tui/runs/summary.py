"""Summary of a run as one flat object, for `status --json` and for scripts. Standard library only."""

import os
import time
from dataclasses import asdict
from typing import Any

from dpo_tui.runs import remaining_time
from dpo_tui.runs.atomic_files import lines_from_end, parse_line
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.metrics_reader import latest
from dpo_tui.runs.status import Status, status_of

_SEVERITIES = {"info": 0, "notice": 1, "warning": 2, "error": 3, "critical": 4}
_UNKNOWN_SEVERITY = 1
_EVENTS_TAIL = 1 << 17
_BRIEF_TAIL = 1 << 11


def summary(folder: RunFolder, *, now: float | None = None, brief: bool = False) -> dict[str, Any]:
    """Merge state.json, progress.json, the computed status, the latest metrics and the worst advice of a run.

    Args:
        folder: the run.
        now: Unix time; the present by default.
        brief: read only the last few metrics and no advice, which is enough for one line of a list.

    Returns:
        The keys of `dpo_tui.runs.state.State` and of progress.json, with ``status`` and ``reason`` as computed, plus
        ``dir``, ``eta_seconds`` (or None), ``metrics`` (each key's latest value) and ``advice`` (the newest of the
        worst severity, or None); of a run of several processes also ``rank_reports``, unless brief.

    Raises:
        RunError: a newer dpo-tui wrote the folder.
    """
    now = time.time() if now is None else now
    status = status_of(folder, now)
    state = status.state.to_dict() if status.state else {"id": folder.id, "name": ""}
    return {
        **status.progress,
        **state,
        "id": folder.id,  # and not what a wrong file says: commands find the run by it
        "status": status.status,
        "reason": status.reason,
        "job": status.job or state.get("job"),
        "dir": str(folder.path),
        "eta_seconds": eta_of(folder, status, now),
        "metrics": latest(folder.metrics, recent_bytes=_BRIEF_TAIL, evaluations=False)
        if brief
        else latest(folder.metrics),
        "advice": None if brief else worst_advice(folder),
        **({} if brief or not os.path.isdir(folder.ranks) else {"rank_reports": _rank_reports(folder)}),
    }


def _rank_reports(folder: RunFolder) -> list[dict[str, Any]]:
    from dpo_tui.runs.ranks import read_reports  # only where there are ranks: lists of runs and the app start fast

    return [asdict(one) for one in read_reports(folder)]


def eta_of(folder: RunFolder, status: Status, now: float) -> float | None:
    """Seconds until a running run's last step at its recent step time; ``None`` when that is unknown."""
    if status.status not in ("running", "stalled", "stopping") or status.state is None:
        return None
    since = status.state.attempt_since(now)
    return remaining_time.eta_seconds(
        status.progress, remaining_time.step_seconds(folder.metrics, since), since=since, now=now
    )


def worst_advice(folder: RunFolder) -> dict[str, Any] | None:
    """The newest event of kind ``advice`` among those of the worst severity; ``None`` without any."""
    worst: dict[str, Any] | None = None
    for line in lines_from_end(folder.events, _EVENTS_TAIL):
        if b'"advice"' not in line:
            continue
        event = parse_line(line)
        if event is not None and event.get("kind") == "advice" and (worst is None or _rank(event) > _rank(worst)):
            worst = event
    return worst


def _rank(event: dict[str, Any]) -> int:
    return _SEVERITIES.get(str(event.get("severity", "")).lower(), _UNKNOWN_SEVERITY)
