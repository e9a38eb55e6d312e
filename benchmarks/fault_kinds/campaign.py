"""Run sessions, several at a time, each in a fork of this process, which has the product imported."""

import json
import os
import pickle
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.fault_kinds.kind import KINDS
from benchmarks.fault_kinds.session import DEADLINE, Session, kind_of, run_session
from benchmarks.fault_kinds.stage import Stage

_POLL = 0.02


def run(
    sessions: Iterable[Session], seed: int, work: Path, *, jobs: int, until: float | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the result of each fault as it is known.

    Args:
        sessions: what to do, in this order.
        seed: of the campaign.
        work: folder for the homes.
        jobs: how many sessions at the same time.
        until: no session begins after this moment of `time.monotonic`.
    """
    preload()
    sessions = list(sessions)
    bystander = next((work / "bystander" / "home" / "runs").glob("2*"), None) or finished_run(work / "bystander")
    if any(KINDS[kind_of(key)].real for session in sessions for key in session.keys):
        make_reference_once(work)
    cluster = _cluster(work, sessions)
    left = iter(sessions)
    running: dict[int, tuple[Session, Path, float]] = {}
    try:
        while True:
            while len(running) < jobs and (until is None or time.monotonic() < until):
                if (session := next(left, None)) is None:
                    break
                answer = work / f"answer-{time.monotonic_ns()}"
                running[_begin(session, seed, work, bystander, answer)] = (session, answer, time.monotonic())
            if not running:
                return
            for pid in list(running):
                session, answer, began = running[pid]
                if time.monotonic() - began > len(session.keys) * DEADLINE + 60:
                    os.kill(pid, signal.SIGKILL)
                if os.waitpid(pid, os.WNOHANG)[0]:
                    del running[pid]
                    yield from _answer(session, answer, seed)
            time.sleep(_POLL)
    finally:
        for pid in running:
            with suppress(OSError):
                os.kill(pid, signal.SIGTERM)
                os.waitpid(pid, 0)
        if cluster is not None:
            cluster.stop()


def _cluster(work: Path, sessions: Iterable[Session]) -> Any:
    """Slurm, where a fault needs it and it is installed."""
    if not any("slurm" in key for session in sessions for key in session.keys):
        return None
    from benchmarks.fault_kinds.slurm_faults import start_cluster

    return start_cluster(work)


def preload() -> None:
    """Import what the commands import when they are called, once for all forks."""
    import importlib

    from dpo_tui.cli import COMMANDS

    for place in COMMANDS.values():
        importlib.import_module(place.partition(":")[0])
    for name in ("start.prepare", "cli.follow", "config.files", "data.load_split", "advice.diagnose"):
        importlib.import_module(f"dpo_tui.{name}")


def finished_run(folder: Path) -> Path:
    """A run of the stand-in that is done, of which every stage has a copy."""
    from benchmarks.fault_kinds.commands import in_child
    from benchmarks.fault_kinds.follow_up import wait_for_end

    def make() -> Path:
        stage = Stage(folder, "bystander", 0)
        run = stage.start(name="beside", steps=3)
        wait_for_end(stage, run)
        return run.path

    return Path(in_child(make))


def make_reference_once(work: Path) -> None:
    """Have the undisturbed real run, to which the others are compared."""
    from benchmarks.fault_kinds.commands import in_child
    from benchmarks.fault_kinds.real_training import make_reference

    in_child(lambda: make_reference(work), 600)


def append(path: Path, result: dict[str, Any]) -> None:
    """Append a result as one line, in one write: a campaign may be killed at any moment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (json.dumps(result) + "\n").encode())
    finally:
        os.close(descriptor)


def _begin(session: Session, seed: int, work: Path, bystander: Path, answer: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    with suppress(BaseException):
        signal.signal(signal.SIGTERM, _end)
        results = run_session(session, seed, work, bystander)
        temporary = answer.with_suffix(".tmp")
        temporary.write_bytes(pickle.dumps(results))
        temporary.rename(answer)
    os._exit(0)


def _end(_number: int, _frame: object) -> None:
    raise SystemExit(1)


def _answer(session: Session, answer: Path, seed: int) -> list[dict[str, Any]]:
    if answer.exists():
        found: list[dict[str, Any]] = pickle.loads(answer.read_bytes())  # noqa: S301 - our own fork's
        answer.unlink()
        return found
    # The session's process died: nothing is known about its faults, which must not look like success.
    return [
        {
            "fault": key,
            "kind": kind_of(key),
            "seed": seed,
            "seconds": 0.0,
            "violations": ["stage: the session ended without an answer"],
            "notes": [],
            "skipped": "",
        }
        for key in session.keys
    ]
