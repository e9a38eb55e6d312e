"""Renew what is known about the jobs of a home: one question to Slurm for all of them.

    python -P -m dpo_tui.runs.launchers.slurm_refresh RUNS_DIR

Readers of a run's status start it (`refresh`) and wait for it for a moment at most: a busy controller may take seconds
to answer, and a list of runs must not. Standard library only.
"""

import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from dpo_tui.errors import RunError
from dpo_tui.processes.child_environment import child_environment
from dpo_tui.runs import run_lock
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers.slurm_commands import queue_entries
from dpo_tui.runs.launchers.slurm_job import UNKNOWN_STATE, JobReport, job_id, read_report, write_report
from dpo_tui.runs.state import read_state
from dpo_tui.runs.status_names import ENDED

REFRESH_INTERVAL = 15.0
"""Seconds after which an answer is old. Sites ask their users not to call squeue more often."""
CONFIRM_INTERVAL = 2.0
"""Seconds after which an end is asked about again, once."""
_WAIT = 1.0
"""Seconds that a reader waits for a new answer at most, once in an interval."""
_POLL = 0.02
# Not a run's folder: names of runs begin with a digit.
_LOCK = ".slurm.lock"

_asked_at: dict[Path, float] = {}
"""Folder of runs -> when this process last had it renewed, on the monotonic clock."""


def report_of(folder: RunFolder, now: float | None = None) -> JobReport | None:
    """What is known about a run's job, renewed if it is old; None for a run that was not submitted.

    It waits for a second at most, and once an interval for all runs of a home together.
    """
    report = read_report(folder)
    now = time.time() if now is None else now
    # What is over stays so: nothing asks Slurm about it again.
    if report is None or report.phase == "over":
        return report
    interval = CONFIRM_INTERVAL if report.ended else REFRESH_INTERVAL
    if abs(now - report.t) < interval:
        return report
    refresh(folder.path.parent, interval)
    return read_report(folder)


def refresh(runs: Path, interval: float) -> None:
    """Have the reports of a home renewed by a child process, and wait a moment for it.

    Args:
        runs: the folder of runs.
        interval: seconds that must have passed since this process last did so.
    """
    now = time.monotonic()
    if now - _asked_at.get(runs, -interval) < interval:
        return
    _asked_at[runs] = now
    try:
        # In a session of its own: it finishes its work when this process ends meanwhile, so the next reader knows more.
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "dpo_tui.runs.launchers.slurm_refresh", str(runs)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=child_environment(),
        )
    except OSError:
        return
    while child.poll() is None and time.monotonic() < now + _WAIT:
        time.sleep(_POLL)


def renew(runs: Path) -> None:
    """Ask Slurm about every job of a home whose run has not ended, and write the answers into the runs' folders.

    Where Slurm does not answer, the old reports stay, with the reason.
    """
    folders = {job: folder for folder in _submitted(runs) if (job := job_id(folder)) is not None}
    if not folders:
        return
    now, error = time.time(), ""
    try:
        entries = queue_entries(list(folders))
    except RunError as failure:
        entries, error = {}, failure.message
    for job, folder in folders.items():
        old = read_report(folder) or JobReport(job, "PENDING")
        if error:
            report = replace(old, t=now, error=error)
        else:
            report = JobReport.of(entries[job], now) if job in entries else JobReport(job, UNKNOWN_STATE, t=now)
            report = replace(report, confirmed=report.state == old.state)
        with suppress(OSError):
            write_report(folder, report)


def _submitted(runs: Path) -> list[RunFolder]:
    """The runs of a home that have a job which may not be over."""
    found = []
    with suppress(OSError), os.scandir(runs) as entries:
        for entry in entries:
            folder = RunFolder(runs / entry.name)
            if not entry.name[0].isdigit() or not folder.job.exists():
                continue
            report = read_report(folder)
            with suppress(RunError):
                state = read_state(folder)
                if state is not None and state.status not in ENDED and report is not None and report.phase != "over":
                    found.append(folder)
    return found


def main(argv: list[str]) -> int:
    """Renew a home's reports, unless another process is just doing that."""
    runs = Path(argv[0])
    lock = runs / _LOCK
    try:
        if run_lock.acquire(lock):
            renew(runs)
            run_lock.release(lock)
    except OSError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
