"""Start, resume and stop a group from the app or the command line. Standard library only."""

import sys

from dpo_tui.errors import RunError
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_requests import PAUSE, STOP, STOP_NOW, clear_requests, request
from dpo_tui.groups.group_status import GroupStatus, group_status
from dpo_tui.runs import control_requests, run_lock
from dpo_tui.runs.launchers.detached_supervisor import start_detached


def start_group(folder: GroupFolder) -> None:
    """Start a group's driver in the background; it continues when this process or its terminal ends.

    Raises:
        RunError: the group has a driver, or it did not start.
    """
    argv = [sys.executable, "-P", "-m", "dpo_tui.groups.driver", str(folder.path)]
    start_detached(argv, f"group {folder.id}", "driver", lock=folder.lock, output_file=folder.driver_output)


def resume_group(folder: GroupFolder) -> GroupStatus:
    """Start a group's driver again: it goes on with the runs that are not finished.

    Returns:
        The group as it was before.

    Raises:
        RunError: it has a driver, or nothing is left to do.
    """
    before = group_status(folder)
    if not before.over:  # it has a driver, here or on another host of a shared home
        raise RunError(
            f"group {folder.id} is {before.status}: it cannot be resumed meanwhile",
            hint=f"Look at it with: dpo-tui status {folder.id}",
        )
    if all(one.status == "done" or one.behind for one in before.members):
        raise RunError(
            f"group {folder.id} is done: there is nothing left to resume",
            hint=f"Compare its runs with: dpo-tui compare {folder.id}",
        )
    clear_requests(folder)
    start_group(folder)
    return before


def stop_group(folder: GroupFolder, now: bool = False) -> None:
    """Ask a group to stop: it starts no other run, and those that run save a checkpoint and stop.

    Without a driver the runs that live are asked one by one.

    Raises:
        RunError: nothing of it is running.
    """
    status = group_status(folder)
    # Those that wait first, as the driver does.
    waiting_first = sorted(status.members, key=lambda one: one.status != "queued")
    live = [one.run for one in waiting_first if one.run is not None and one.live]
    if not status.live and not live:
        raise RunError(
            f"group {folder.id} is {status.status}: it cannot be stopped",
            hint=f"dpo-tui status {folder.id} says more.",
        )
    # The file first, and the lock after it, as for a run: a driver that ends in between has left the file unread.
    request(folder, STOP_NOW if now else STOP)
    if run_lock.owner(folder.lock) is None:
        clear_requests(folder, STOP, STOP_NOW)
        for run in live:
            control_requests.request_stop(run, now=now)


def pause_group(folder: GroupFolder) -> None:
    """Keep a group from starting other runs; those that run go on.

    Raises:
        RunError: it is over.
    """
    status = group_status(folder)
    if not status.live:
        raise RunError(f"group {folder.id} is {status.status}: only a group that is driven can be paused")
    request(folder, PAUSE)


def unpause_group(folder: GroupFolder) -> None:
    """Let a paused group start runs again."""
    clear_requests(folder, PAUSE)
