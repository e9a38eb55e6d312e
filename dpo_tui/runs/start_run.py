"""Start a run, or start it again: its launcher starts a supervisor, which outlives the terminal.

Standard library only.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from dpo_tui.errors import RunError
from dpo_tui.runs.folder import RunFolder, newest_checkpoint
from dpo_tui.runs.launchers.registry import launcher_of
from dpo_tui.runs.process import is_same_process
from dpo_tui.runs.state import State, read_state
from dpo_tui.runs.status import status_of

ARGV_VARIABLE = "DPO_TUI_ARGV"
"""The command line that started the run, as JSON, for the worker's receipt."""

_ORPHAN_DEADLINE = 60.0
"""Seconds to wait for the worker of a lost run, which may still be saving its checkpoint."""
_POLL = 0.02
_WORKER_MODULE = "dpo_tui.train"


@dataclass(frozen=True)
class Resumed:
    """What `resume` did.

    Args:
        checkpoint: the newest whole checkpoint, from which the worker goes on; ``None`` when there is none and the run
            starts from the beginning.
    """

    checkpoint: Path | None


def start(folder: RunFolder, worker_argv: list[str] | None = None) -> None:
    """Start a new run in the background; it goes on when this process, its terminal or the connection goes away.

    Args:
        folder: what `store.create` made.
        worker_argv: the worker's command; by default `dpo_tui.train` under the run's interpreter.

    Returns:
        When the supervisor holds the run's lock, or the run is submitted: from then on it is looked after.

    Raises:
        RunError: the run is already looked after, or was before (then `resume` it), or no supervisor came up.
    """
    state = _state(folder)
    if state.attempt:
        raise RunError(f"run {folder.id} was started before", hint=f"Resume it: dpo-tui resume {folder.id}")
    _launch(folder, state, worker_argv or default_worker_argv(folder, state.python or sys.executable))


def resume(folder: RunFolder, worker_argv: list[str] | None = None) -> Resumed:
    """Start a run again where it left off: failed, stopped, lost, or never begun.

    Args:
        folder: the run.
        worker_argv: the worker's command; by default the one that it had.

    Raises:
        RunError: it is running, or done, or someone else resumed it at the same time.
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
    _wait_for_orphan(folder, state)
    checkpoint = newest_checkpoint(folder)
    _launch(folder, state, worker_argv or _earlier_worker_argv(folder, state))
    return Resumed(checkpoint)


def default_worker_argv(folder: RunFolder, python: str = sys.executable) -> list[str]:
    """The worker's command. ``-P`` keeps a ``random.py`` in the current folder from being taken for Python's own."""
    return [python, "-P", "-m", _WORKER_MODULE, str(folder.path)]


def _state(folder: RunFolder) -> State:
    state = read_state(folder)
    if state is None:
        raise RunError(
            f"run {folder.id}: {folder.state} is missing or torn",
            hint="Start a new run from its config.toml: dpo-tui train " + str(folder.config),
        )
    return state


def _launch(folder: RunFolder, state: State, worker_argv: list[str]) -> None:
    command = [sys.executable, "-P", "-m", "dpo_tui.runs.supervisor", str(folder.path)]
    # The supervisor refuses if another launcher was faster and started a worker since we looked.
    command += ["--attempt", str(state.attempt), "--", *worker_argv]
    launcher_of(state).start_supervisor(folder, command)


def _wait_for_orphan(folder: RunFolder, state: State) -> None:
    """Wait until the worker of a supervisor that was killed has saved and gone: two would write the same folder."""
    deadline = time.monotonic() + _ORPHAN_DEADLINE
    while is_same_process(state.worker_pid, state.worker_start):
        if time.monotonic() > deadline:
            raise RunError(
                f"run {folder.id}: the worker of its last attempt (process {state.worker_pid}) is still alive",
                hint=f"It is saving, or hangs: wait, or `dpo-tui stop --now {folder.id}`, then resume again.",
            )
        time.sleep(10 * _POLL)


def _earlier_worker_argv(folder: RunFolder, state: State) -> list[str]:
    """The command that the run had, unless its interpreter or the folder has moved."""
    earlier = state.worker_argv or default_worker_argv(folder)
    if _WORKER_MODULE not in earlier:
        return list(earlier)
    python = earlier[0] if os.access(earlier[0], os.X_OK) else sys.executable
    return default_worker_argv(folder, state.python or python)


def _watch(folder: RunFolder) -> str:
    return f"Look at it with: dpo-tui status {folder.id}"
