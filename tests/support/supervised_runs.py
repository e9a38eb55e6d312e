"""Real runs with a stand-in worker, for tests of the run folder: a fresh home, waiting for states, events."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.runs import run_lock, start_run, store
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.process import is_same_process
from dpo_tui.runs.state import State, read_state, write_state
from dpo_tui.runs.status import status_of

WORKER = Path(__file__).with_name("standin_worker.py")
PATIENCE = 60.0
"""Seconds that a test waits for what must come: generous, since the machine may be busy."""
CONFIG = "[training]\nper_device_train_batch_size = 4\ngradient_accumulation_steps = 2\n"


@pytest.fixture(name="home")
def fresh_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh home; whatever a test leaves running in it is killed.

    Runs of a stand-in worker go on with it: the product starts none but its own.
    """
    monkeypatch.setattr(start_run, "_own_worker_argv", same_worker_argv)
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DPO_TUI_STOP_GRACE", "0.5")
    yield tmp_path / "home"
    for path in (tmp_path / "home" / "runs").glob("2*"):
        state = read_json(path / "state.json") or {}
        for who in ("supervisor", "worker"):
            if (
                is_same_process(state.get(f"{who}_pid"), state.get(f"{who}_start"))
                and state[f"{who}_pid"] != os.getpid()
            ):
                with contextlib.suppress(OSError):
                    os.kill(state[f"{who}_pid"], signal.SIGKILL)


_PRODUCT_WORKER_ARGV = start_run._own_worker_argv


def same_worker_argv(folder: RunFolder) -> list[str]:
    """The command of the last attempt where that was a stand-in worker, and otherwise the product's."""
    earlier = (read_json(folder.state) or {}).get("worker_argv") or []
    return list(earlier) if earlier and "dpo_tui.train" not in earlier else _PRODUCT_WORKER_ARGV(folder)


def make(
    name: str = "test", *, devices: list[str] | None = None, after: str | None = None, config: str = CONFIG
) -> RunFolder:
    """Create a run, without starting it."""
    return store.create(config, name=name, devices=devices or [], after=after)


def worker(folder: RunFolder, *options: str | int) -> list[str]:
    """The stand-in worker's command."""
    return [sys.executable, str(WORKER), str(folder.path), *map(str, options)]


def begin(*options: str | int, **how: Any) -> RunFolder:
    """Create a run and start it with the stand-in worker."""
    folder = make(**how)
    start_run.start(folder, worker(folder, *options))
    return folder


def until(condition: Callable[[], Any], description: str = "") -> Any:
    """Wait until a condition returns something true, and return that."""
    deadline = time.monotonic() + PATIENCE
    while True:
        if found := condition():
            return found
        assert time.monotonic() < deadline, f"waited {PATIENCE} s in vain{': ' if description else ''}{description}"
        time.sleep(0.02)


def ended(folder: RunFolder) -> State:
    """Wait until a run is over and its supervisor has gone; return its state."""
    until(lambda: status_of(folder).over and run_lock.owner(folder.lock) is None, f"{folder.id} to end")
    return state_of(folder)


def holding(folder: RunFolder, step: int) -> None:
    """Wait until the worker has logged this step, at which its options make it hold."""
    until(lambda: (read_json(folder.progress) or {}).get("step") == step, f"{folder.id} to reach step {step}")


def has_status(folder: RunFolder, *statuses: str) -> str:
    """Wait until a run has one of these statuses."""
    return str(until(lambda: (found := status_of(folder).status) in statuses and found, f"{folder.id}: {statuses}"))


def waits(folder: RunFolder, *parts: str) -> str:
    """Wait until a run is queued with a reason that has all these parts, and return the reason."""

    def reason() -> str:
        found = status_of(folder)
        return found.reason if found.status == "queued" and all(part in found.reason for part in parts) else ""

    return str(until(reason, f"{folder.id} to say {parts}"))


def go(folder: RunFolder) -> None:
    """Let a holding worker continue."""
    (folder.path / "go").touch()


def send(pid: int | None, number: signal.Signals) -> None:
    """Send a signal to a process whose pid a run has recorded; pid 0 would mean this process's whole group."""
    assert pid, "no process is written down yet"
    os.kill(pid, number)


def state_of(folder: RunFolder) -> State:
    """The state, which must be there."""
    state = read_state(folder)
    assert state is not None
    return state


def edit_state(folder: RunFolder, **changes: Any) -> None:
    """Change state.json from outside the supervisor."""
    write_state(folder, State.from_dict({**state_of(folder).to_dict(), **changes}))


def events(folder: RunFolder, kind: str) -> list[dict[str, Any]]:
    """The supervisor's events of one kind."""
    if not folder.supervisor_log.exists():
        return []
    lines = [json.loads(line) for line in folder.supervisor_log.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["kind"] == kind]


def worker_environments(folder: RunFolder) -> list[dict[str, str]]:
    """The environment that each attempt's worker got."""
    return [json.loads(line) for line in (folder.path / "worker-env.jsonl").read_text().splitlines()]


@contextlib.contextmanager
def supervised(folder: RunFolder) -> Iterator[int]:
    """Hold a run's lock from another process, as a supervisor does; yields its pid."""
    code = (
        "import sys; from pathlib import Path; from dpo_tui.runs import run_lock as lock\n"
        "print(lock.acquire(Path(sys.argv[1])), flush=True); sys.stdin.read()"
    )
    keeper = subprocess.Popen(
        [sys.executable, "-c", code, str(folder.lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert keeper.stdin and keeper.stdout
    try:
        assert keeper.stdout.readline() == "True\n"
        yield keeper.pid
    finally:
        keeper.kill()
        keeper.communicate()
