"""Start, resume and stop an improvement from the app or the command line. Standard library only."""

import sys

from dpo_tui.errors import RunError
from dpo_tui.groups.group_control import stop_group
from dpo_tui.groups.group_requests import STOP, STOP_NOW, clear_requests, request
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_status import ImprovementStatus, groups_of, improvement_status
from dpo_tui.runs import run_lock
from dpo_tui.runs.launchers.detached_supervisor import start_detached


def start_improvement(folder: ImprovementFolder) -> None:
    """Start an improvement's driver in the background; it continues when this process or its terminal ends.

    Raises:
        RunError: it has a driver, or the driver did not start.
    """
    argv = [sys.executable, "-P", "-m", "dpo_tui.improve.improvement_driver", str(folder.path)]
    start_detached(argv, f"improvement {folder.id}", "driver", lock=folder.lock, output_file=folder.driver_output)


def resume_improvement(folder: ImprovementFolder) -> ImprovementStatus:
    """Start an improvement's driver again: it goes on where it was.

    Returns:
        The improvement as it was before.

    Raises:
        RunError: it has a driver, or it is done.
    """
    before = improvement_status(folder)
    if not before.over:  # it has a driver, here or on another host of a shared home
        raise RunError(
            f"improvement {folder.id} is {before.status}: it cannot be resumed meanwhile",
            hint=f"Look at it with: dpo-tui status {folder.id}",
        )
    if before.status == "done":
        raise RunError(
            f"improvement {folder.id} is done: {before.reason}",
            hint=f"Its report is {folder.report}; begin another from its last run.",
        )
    clear_requests(folder)
    start_improvement(folder)
    return before


def stop_improvement(folder: ImprovementFolder, now: bool = False) -> None:
    """Ask an improvement to stop; a training of it saves a checkpoint and stops, or ends at once.

    Without a driver a training that lives is stopped alone.

    Raises:
        RunError: nothing of it is running.
    """
    status = improvement_status(folder)
    groups = groups_of(folder)
    if status.live:
        request(folder, STOP_NOW if now else STOP)
    if not status.live or now:
        stopped = 0
        for group in groups:
            try:
                stop_group(group, now=now)
            except RunError:
                continue  # it has ended
            stopped += 1
        if not status.live and not stopped:
            raise RunError(
                f"improvement {folder.id} is {status.status}: it cannot be stopped",
                hint=f"dpo-tui status {folder.id} says more.",
            )
    if status.live and run_lock.owner(folder.lock) is None:  # it ended in between
        clear_requests(folder, STOP, STOP_NOW)
