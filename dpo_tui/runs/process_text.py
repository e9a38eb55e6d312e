"""In which job, on which nodes and in how many processes a run trains, and which of them is silent, in words.

For whatever shows a run's summary: the command line and the app. Standard library only.
"""

from collections.abc import Mapping
from typing import Any

from dpo_tui.text.durations import duration

SILENT = 15.0
"""Seconds without a heartbeat of a process, three of its intervals, from which on it is remarked."""


def processes_text(run: Mapping[str, Any]) -> str:
    """How many processes a run trains in, and on how many nodes; empty for one process.

    Args:
        run: as `dpo_tui.runs.summary.summary` makes it.
    """
    count = run.get("ranks")
    if not isinstance(count, int) or count < 2:  # noqa: PLR2004 - one process is nothing to remark
        return ""
    reports = [one for one in run.get("rank_reports") or () if isinstance(one, Mapping)]
    # In the order of the ranks, each once.
    nodes = list(dict.fromkeys(str(one["node"]) for one in reports if one.get("node")))
    return f"{count} processes" + (f" on {len(nodes)} nodes" if len(nodes) > 1 else "")


def job_text(run: Mapping[str, Any]) -> str:
    """The batch job of a run and its nodes, such as ``job 4711 on n[1-2]``; empty without one."""
    job = run.get("job")
    if not isinstance(job, Mapping) or not job.get("id"):
        return ""
    where = job.get("nodes") or job.get("node")
    return f"job {job['id']}" + (f" on {where}" if where else "")


def silence_of(report: Mapping[str, Any], now: float) -> str:
    """For how long a process has given no sign of life; empty where that is usual, or it has ended."""
    last = report.get("t")
    if report.get("code") is not None or not isinstance(last, int | float) or not last or now - last <= SILENT:
        return ""
    return f"silent for {duration(now - last)}"


def silent_process(run: Mapping[str, Any], now: float) -> str:
    """The process of a run that has been silent longest, with its node; empty where none is."""
    reports = [one for one in run.get("rank_reports") or () if isinstance(one, Mapping) and silence_of(one, now)]
    if not reports:
        return ""
    longest = min(reports, key=lambda one: float(one["t"]))
    where = f" on {longest['node']}" if longest.get("node") else ""
    return f"rank {longest.get('rank')}{where} {silence_of(longest, now)}"
