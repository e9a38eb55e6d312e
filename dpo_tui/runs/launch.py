"""Start a run, or start it again: detach a supervisor that outlives the terminal. Standard library only."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from dpo_tui.errors import RunError
from dpo_tui.processes.environment import child_environment
from dpo_tui.runs import lock
from dpo_tui.runs.checkpoint import newest_checkpoint
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.process import is_same_process
from dpo_tui.runs.state import State, read_state
from dpo_tui.runs.status import LAUNCH_DEADLINE, status_of

_ORPHAN_DEADLINE = 60.0
"""Seconds to wait for the worker of a lost run, which may still be saving its checkpoint."""
_POLL = 0.02
_TAIL = 2000
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
        When the supervisor holds the run's lock: from then on the run is looked after.

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
    try:
        with open(folder.supervisor_output, "ab") as output:
            before = output.tell()
            supervisor = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                close_fds=True,
                env=child_environment(),
            )
    except OSError as error:
        raise RunError(f"run {folder.id}: no supervisor could be started: {error}") from error
    # Whoever launches may live long (the app): collect the exit status, so that no zombie stays.
    threading.Thread(target=supervisor.wait, daemon=True, name=f"reap-{folder.id}").start()
    deadline = time.monotonic() + LAUNCH_DEADLINE
    while lock.owner(folder.lock) != supervisor.pid:
        ended = supervisor.poll()
        if ended == 0:
            return  # it came, worked and ended between two looks
        if ended is not None:
            raise RunError(
                _tail(folder.supervisor_output, before) or f"run {folder.id}: its supervisor ended with {ended}",
                hint=_watch(folder),
            )
        if time.monotonic() > deadline:
            supervisor.kill()
            raise RunError(
                f"run {folder.id}: its supervisor did not come up within {LAUNCH_DEADLINE:.0f} s",
                hint=f"{folder.supervisor_output} may say why.",
            )
        time.sleep(_POLL)


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


def _tail(path: Path, offset: int) -> str:
    try:
        with open(path, "rb") as stream:
            stream.seek(offset)
            return stream.read()[-_TAIL:].decode("utf-8", "replace").strip()
    except OSError:
        return ""
