"""Start a supervisor, or a group's driver, detached from the terminal and from the process that starts it.

Standard library only.
"""

import os
import subprocess
import threading
import time
from pathlib import Path

from dpo_tui.errors import RunError
from dpo_tui.processes.child_environment import child_environment
from dpo_tui.runs import disk_problem, run_lock
from dpo_tui.runs.atomic_files import open_private, read_json
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers.launcher import LAUNCH_DEADLINE

_POLL = 0.02
_RECORD_SECONDS = 5.0
"""Seconds to wait for the first record of a supervisor that has its lock; on a full disk there is none for longer."""
_TAIL = 2000
"""Bytes at the end of supervisor.log that an error quotes."""


def start_detached_supervisor(folder: RunFolder, argv: list[str]) -> None:
    """Start a run's supervisor in a new session; return when it has taken the run, or has ended with code 0.

    Between its lock and its first record the state is that of the attempt before: a request to stop would be refused,
    or withdrawn with the requests to that attempt.

    Args:
        folder: the run; the supervisor's output goes to its ``supervisor.log``.
        argv: the supervisor's command.

    Raises:
        RunError: it did not start, did not take the run, or did not take the lock in time.
    """
    start_detached(argv, f"run {folder.id}", "supervisor", lock=folder.lock, output_file=folder.supervisor_output)
    supervisor = run_lock.owner(folder.lock)
    deadline = time.monotonic() + _RECORD_SECONDS
    while supervisor is not None and run_lock.owner(folder.lock) == supervisor and time.monotonic() < deadline:
        if (read_json(folder.state) or {}).get("supervisor_pid") == supervisor:
            return
        time.sleep(_POLL)


def start_detached(argv: list[str], whose: str, role: str, *, lock: Path, output_file: Path) -> None:
    """Start a process in a new session that takes a lock and keeps it; return when it holds it, or has ended with 0.

    Args:
        argv: its command.
        whose: what it looks after, for errors: ``run ID``.
        role: what it is, for errors: ``supervisor``.
        lock: the lock that it takes.
        output_file: gets its output.

    Raises:
        RunError: it did not start, ended with an error, or did not take the lock in time.
    """
    folder = lock.parent
    try:
        # Also for reading, by this descriptor: whoever removes the folder meanwhile does not take the words away.
        output = open(output_file, "a+b", opener=open_private)  # noqa: SIM115 - closed by the with below
    except OSError as error:
        raise _not_started(f"{whose}: no {role} could be started: {error}", whose, folder) from error
    with output:
        before = output.seek(0, os.SEEK_END)
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Without a controlling terminal, neither its end (SIGHUP) nor its Ctrl-C reaches the process.
                start_new_session=True,
                close_fds=True,
                # What it and the worker write is this user's alone.
                umask=0o077,
                env=child_environment(),
            )
        except OSError as error:
            raise RunError(f"{whose}: no {role} could be started: {error}") from error
        # The starting process may live long (the app): collect the exit status, so that no zombie remains.
        threading.Thread(target=process.wait, daemon=True, name=f"reap {whose}").start()
        deadline = time.monotonic() + LAUNCH_DEADLINE
        while run_lock.owner(lock) != process.pid:
            ended = process.poll()
            if ended == 0:
                return  # it took the lock, ran and ended between two polls
            if ended is not None:
                output.seek(before)
                said = output.read()[-_TAIL:].decode("utf-8", "replace").strip()
                raise _not_started(said or f"{whose}: its {role} ended with {ended}", whose, folder)
            if time.monotonic() > deadline:
                process.kill()
                raise RunError(
                    f"{whose}: its {role} did not come up within {LAUNCH_DEADLINE:.0f} s",
                    hint=f"{output_file} may say why.",
                )
            time.sleep(_POLL)


def _not_started(message: str, whose: str, folder: Path) -> RunError:
    """The error of a process that did not start: a folder that is gone, or whose disk takes nothing, is the cause."""
    if not folder.is_dir():
        return RunError(f"{whose} was removed meanwhile")
    if (refused := disk_problem.refused_write(folder)) is not None:
        return RunError(f"{message} ({disk_problem.problem(refused)})", hint=disk_problem.remedy(refused))
    return RunError(message, hint=f"Look at it with: dpo-tui status {whose.rpartition(' ')[2]}")
