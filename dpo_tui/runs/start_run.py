"""Start or resume a run from the app or the command line: check its state, then let its launcher start a supervisor.

The supervisor outlives the terminal. Standard library only.
"""

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dpo_tui.errors import RunError
from dpo_tui.runs import control_requests, disk_problem
from dpo_tui.runs.checkpoint_checksums import newest_whole
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.frozen_config import read_setting
from dpo_tui.runs.launchers.registry import launcher_of
from dpo_tui.runs.process import is_same_process
from dpo_tui.runs.resource_change import ResourceChange
from dpo_tui.runs.state import State, read_state
from dpo_tui.runs.status import status_of

ARGV_VARIABLE = "DPO_TUI_ARGV"
"""Environment variable with the command line that started the run, as JSON, for the worker's receipt."""

_ORPHAN_DEADLINE = 60.0
"""Seconds to wait for the worker of a killed supervisor, which may still be saving its checkpoint."""
_ORPHAN_POLL = 0.2
_WORKER_MODULE = "dpo_tui.train"
_UNSLOTH = "unsloth"
"""The provider that has an interpreter of its own."""


@dataclass(frozen=True)
class Resumed:
    """The result of `resume`.

    Args:
        checkpoint: the newest whole checkpoint, from which the worker continues; ``None`` when there is none and the
            run starts from the beginning.
        skipped: why newer checkpoints are not used, by their names.
        compared: whether its files have been compared with their checksums; the worker compares them in any case.
    """

    checkpoint: Path | None
    skipped: Mapping[str, str] = field(default_factory=dict)
    compared: bool = True


def start(folder: RunFolder, worker_argv: list[str] | None = None) -> None:
    """Start a new run in the background; it continues when this process, its terminal or the connection ends.

    Args:
        folder: the run, from `dpo_tui.runs.store.create`.
        worker_argv: the worker's command; by default `dpo_tui.train` under the run's interpreter.

    Returns when the supervisor holds the run's lock, or the run is submitted to a batch system.

    Raises:
        RunError: the run has a supervisor or was started before (then `resume` it), or its supervisor did not start.
    """
    state = _state(folder)
    if state.attempt:
        raise RunError(f"run {folder.id} was started before", hint=f"Resume it: dpo-tui resume {folder.id}")
    _require_own(folder)
    _launch(folder, state, worker_argv or _own_worker_argv(folder))


def resume(folder: RunFolder, worker_argv: list[str] | None = None, *, change: ResourceChange | None = None) -> Resumed:
    """Start a failed, stopped, lost or never started run again, from its newest checkpoint.

    Args:
        folder: the run.
        worker_argv: the worker's command; by default `dpo_tui.train` under the run's interpreter.
        change: other devices, or another number of processes; as before when left out.

    Raises:
        RunError: it is running, or done, someone else resumed it at the same time, its disk takes nothing, or the
            folder is another user's.
    """
    state = _state(folder)
    if state.status == "done":
        raise RunError(
            f"run {folder.id} is done: there is nothing left to resume",
            hint="To train on, copy its config.toml, raise num_train_epochs, and `dpo-tui train` the copy.",
        )
    status = status_of(folder)
    if status.live:
        raise RunError(f"run {folder.id} is {status.status}: it cannot be resumed meanwhile", hint=_watch(folder))
    _require_own(folder)
    _require_disk(folder)
    _wait_for_orphan(folder, state)
    # Whoever resumes a run that was paused, and never started since, wants it to start.
    control_requests.clear(folder, control_requests.PAUSE)
    # Before the worker starts, which takes the marker from a damaged checkpoint.
    checkpoint, skipped, compared = newest_whole(folder.checkpoints)
    _launch(folder, state, worker_argv or _own_worker_argv(folder), change)
    return Resumed(checkpoint, skipped, compared)


def default_worker_argv(folder: RunFolder, python: str = sys.executable) -> list[str]:
    """The worker's command; without ``-P`` a ``random.py`` in the current folder would shadow the standard module."""
    return [python, "-P", "-m", _WORKER_MODULE, str(folder.path)]


def supervisor_argv(
    folder: RunFolder, attempt: int, worker_argv: list[str], change: ResourceChange | None = None
) -> list[str]:
    """The supervisor's command.

    Args:
        folder: the run.
        attempt: how many attempts it has had. With another number in the state the supervisor does not take the run:
            someone else resumed it since.
        worker_argv: the worker's command.
        change: other devices or another number of processes than before.
    """
    command = [sys.executable, "-P", "-m", "dpo_tui.runs.supervisor", str(folder.path), "--attempt", str(attempt)]
    if change is not None:
        # By the command and not by a file: of two resumes at the same time one is refused, and its change with it.
        command += ["--change", change.to_json()]
    return [*command, "--", *worker_argv]


def _state(folder: RunFolder) -> State:
    state = read_state(folder)
    if state is None:
        raise RunError(
            f"run {folder.id}: {folder.state} is missing or torn",
            hint="Start a new run from its config.toml: dpo-tui train " + str(folder.config),
        )
    return state


def _require_disk(folder: RunFolder) -> None:
    """Check that the run's disk can be written: the worker would load its model for minutes and then fail."""
    if (refused := disk_problem.refused_write(folder.path)) is not None:
        raise RunError(
            f"run {folder.id} cannot be resumed: {disk_problem.problem(refused)}: {folder.path}",
            hint=disk_problem.remedy(refused),
        )


def _launch(folder: RunFolder, state: State, worker_argv: list[str], change: ResourceChange | None = None) -> None:
    command = supervisor_argv(folder, state.attempt, worker_argv, change)
    if change is not None:
        state = replace(state, launcher=change.launcher)
    launcher_of(state).start_supervisor(folder, command)


def _wait_for_orphan(folder: RunFolder, state: State) -> None:
    """Wait until the worker of a killed supervisor has saved and ended: two workers would write the same folder."""
    deadline = time.monotonic() + _ORPHAN_DEADLINE
    while is_same_process(state.worker_pid, state.worker_start):
        if time.monotonic() > deadline:
            raise RunError(
                f"run {folder.id}: the worker of its last attempt (process {state.worker_pid}) is still alive",
                hint=f"It is saving, or hangs: wait, or `dpo-tui stop --now {folder.id}`, then resume again.",
            )
        time.sleep(_ORPHAN_POLL)


def _own_worker_argv(folder: RunFolder) -> list[str]:
    """The worker's command, by the provider that the config names.

    Not the command or the interpreter in state.json: a run folder that came from elsewhere would be a program.
    """
    from dpo_tui.processes.unsloth_environment import interpreter  # slow to load, and lists of runs must be fast

    python = interpreter() if read_setting(folder.config, "provider") == _UNSLOTH else sys.executable
    return default_worker_argv(folder, str(python))


def _require_own(folder: RunFolder) -> None:
    """Refuse a run that another user has put into this home: its config decides what is read, loaded and run.

    Whoever owns the folder of all runs may be another id than this process's, as on a network disk or in a container.
    """
    try:
        owner, mine = folder.path.stat().st_uid, {os.geteuid(), folder.path.parent.stat().st_uid}
    except OSError:
        return  # what is not there is refused where it is read
    if owner not in mine:
        raise RunError(
            f"run {folder.id} belongs to another user (id {owner}): it is not started",
            hint=f"Read its config, and start a run of your own: dpo-tui train {folder.config}",
        )


def _watch(folder: RunFolder) -> str:
    return f"Look at it with: dpo-tui status {folder.id}"
