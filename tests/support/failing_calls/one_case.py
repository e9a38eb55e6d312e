"""One case: a run whose n-th call of one role fails, from its making to its end, and what must hold then.

The process that calls :func:`violations_of` must have been started with the library of ``failing_calls.c``.
"""

import ctypes
import errno
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dpo_tui.errors import DpoTuiError
from dpo_tui.runs import control_requests, naming, start_run, store
from dpo_tui.runs.atomic_files import read_json, read_last_json_lines
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.process import parent_of, set_child_subreaper
from dpo_tui.runs.state import read_state
from dpo_tui.runs.status import Status, status_of
from tests.support.failing_calls.faked_training import GATE_STEP, STEPS, weights_after

WORKER = Path(__file__).with_name("faked_training.py")
_PATIENCE = 60.0
_WORDS = {
    errno.ENOSPC: ("full", "No space left", "only a part"),
    errno.EDQUOT: ("quota",),
    errno.EROFS: ("ead-only",),
    errno.EIO: ("does not work", "Input/output error"),
    errno.EINTR: ("Interrupted",),
}
_LOST_LINES = 10_000


@dataclass(frozen=True)
class Case:
    """What fails.

    Args:
        plan: train (a run is made, renamed, asked for a checkpoint, and ends), stop (it is asked to stop), or resume (a
            stopped run goes on; what fails comes after the stop).
        role: command, supervisor or worker.
        call: the number of the call, from 1; 0 for none.
        number: the errno.
        mode: as in ``failing_calls.c``.
    """

    plan: str
    role: str = "command"
    call: int = 0
    number: int = errno.EIO
    mode: str = "once"


class Stage:
    """The folders and files of one case, and the library's switches.

    Args:
        place: an empty folder.
        case: what fails.
    """

    def __init__(self, place: Path, case: Case) -> None:
        self.case = case
        self.home, self.truth, self.gate = place / "home", place / "truth", place / "gate"
        self.log, self._shared = place / "calls", place / "shared"
        self._shared.write_bytes(bytes(12))
        self.truth.touch()
        self._library = ctypes.CDLL(None)
        os.environ |= {
            "DPO_TUI_HOME": str(self.home),
            "DPO_TUI_DISK_PATIENCE": "0.2",
            "DPO_TUI_STOP_GRACE": "5",
            "FAKED_TRUTH": str(self.truth),
            "FAKED_GATE": str(self.gate),
            "FAILING_BELOW": str(self.home / "runs"),
            "FAILING_SHARED": str(self._shared),
            "FAILING_LOG": str(self.log),
        }
        self.disarm()

    def arm(self) -> None:
        """From here on the case's call fails."""
        case = self.case
        os.environ |= {"FAILING_ROLE": case.role, "FAILING_CALL": str(case.call)}
        os.environ |= {"FAILING_ERRNO": str(case.number), "FAILING_MODE": case.mode}
        self._library.failing_calls_configure()

    def disarm(self) -> None:
        """Nothing fails any more."""
        for name in ("FAILING_ROLE", "FAILING_CALL"):
            os.environ.pop(name, None)
        self._shared.write_bytes(bytes(8) + self._shared.read_bytes()[8:])
        self._library.failing_calls_configure()

    def failed_calls(self) -> int:
        """How many calls were made to fail."""
        return int.from_bytes(self._shared.read_bytes()[8:], sys.byteorder)

    def told(self, kind: str) -> list[int]:
        """What the worker told of one kind, oldest first."""
        lines = [line.split() for line in self.truth.read_text().splitlines()]
        return [int(value) for name, value in lines if name == kind]


class Run:
    """Does to a run what a user does, and keeps what was refused.

    Args:
        stage: where.
        found: gets the violations.
    """

    def __init__(self, stage: Stage, found: list[str]) -> None:
        self.stage = stage
        self.found = found
        self.refusals: list[str] = []
        self.folder: RunFolder | None = None
        self.renamed = False

    def attempt(self, what: str, do: Callable[[], object]) -> bool:
        """Do something that may be refused in words; anything else is a violation."""
        try:
            do()
        except DpoTuiError as error:
            self.refusals.append(f"{error.message} {error.hint or ''}")
            return False
        except Exception as error:
            self.found.append(f"{what} ends with a traceback: {error!r}")
            return False
        return True

    def make(self) -> bool:
        """Make the run."""

        def create() -> None:
            self.folder = store.create("[training]\n", name="first", devices=[])

        return self.attempt("create", create)

    def start(self) -> bool:
        """Start it, or go on with it."""
        folder = self.folder
        assert folder is not None
        argv = [sys.executable, "-S", "-P", str(WORKER), str(folder.path)]
        state = read_state(folder)
        if state is not None and state.attempt:
            return self.attempt("resume", lambda: start_run.resume(folder, argv))
        return self.attempt("start", lambda: start_run.start(folder, argv))

    def ask(self) -> None:
        """At the step where the worker waits: rename the run, and ask it to save or to stop."""
        folder, stage = self.folder, self.stage
        assert folder is not None
        trained = len(stage.told("trained"))
        deadline = time.monotonic() + _PATIENCE
        while GATE_STEP not in stage.told("trained")[trained:] and children() and time.monotonic() < deadline:
            if GATE_STEP in stage.told("trained"):
                break
            time.sleep(0.01)
        self.renamed = self.attempt("rename", lambda: naming.rename(folder, "second"))
        if stage.case.plan == "train":
            self.attempt("checkpoint", lambda: control_requests.request_checkpoint(folder))
        elif not stage.gate.exists():
            self.attempt("stop", lambda: control_requests.request_stop(folder))
        stage.gate.touch()

    def wait(self) -> None:
        """Wait until supervisor and worker have gone."""
        deadline = time.monotonic() + _PATIENCE
        while left := children():
            if time.monotonic() > deadline:
                self.found.append(f"does not end: {left}")
                for pid in left:
                    with suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


def children() -> list[int]:
    """The living children of this process, orphans of the run included."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and parent_of(int(name)) == os.getpid()]


def violations_of(case: Case, place: Path) -> tuple[list[str], int, str]:
    """Stage a case; return what is wrong, how many calls failed, and how the run stood then, in words."""
    set_child_subreaper()
    found: list[str] = []
    stage = Stage(place, case)
    run = Run(stage, found)
    if case.plan == "resume":
        run.make()
        run.start()
        run.ask()
        run.wait()
    stage.arm()
    started = (run.folder is not None or run.make()) and run.start()
    if started:
        run.ask()
    run.wait()
    seen = ""
    if run.folder is not None:
        broken = status_of(run.folder, time.time() + 100)
        seen = f"{broken.status}: {broken.reason}"
        _check_status(run, broken, started, "while the disk is broken")
        stage.disarm()
        after = status_of(run.folder, time.time() + 100)
        seen += f" / {after.status}: {after.reason}"
        _check_status(run, after, started, "afterwards")
        _check_end(run, after)
        if after.status != "done":
            _go_on(run)
        _check_lines(run)
    else:
        stage.disarm()
        if store.all_runs():
            found.append("the command says that no run was made, and there is one")
        again = Run(stage, found)
        if not again.make():
            found.append(f"no run can be made afterwards: {again.refusals}")
    return found, stage.failed_calls(), f"{seen} {run.refusals}"


def _check_status(run: Run, status: Status, started: bool, when: str) -> None:
    """What the status says must be true: all processes of the run have gone."""
    stage = run.stage
    if status.live or not status.over:
        run.found.append(f"{when}: status {status.status} ({status.reason}) of a run without a process")
    if status.status == "done" and stage.told("exit")[-1:] != [0]:
        run.found.append(f"{when}: done, and the worker was not")
    if not started and stage.told("worker") and stage.case.plan != "resume":
        run.found.append(f"{when}: the command says that it did not start, and it did")
    expected = {0: "done", 130: "stopped"}.get((stage.told("exit") or [-1])[-1])
    if stage.failed_calls() and status.status not in {"done", expected}:
        said = " ".join([status.reason, *run.refusals])
        # Where nothing at all can be written, nobody can say more afterwards.
        words = (*_WORDS[stage.case.number], *(["could write nothing"] if stage.case.mode == "stays" else []))
        if stage.case.mode != "kill" and not any(word in said for word in words):
            run.found.append(f"{when}: {status.status}, and the cause is not named: {said}")


def _check_end(run: Run, status: Status) -> None:
    stage, folder = run.stage, run.folder
    assert folder is not None
    if stage.case.mode in {"once", "short"} and status.status == "lost" and stage.told("exit"):
        run.found.append(f"lost by one failed call: {status.reason}")
    state = read_state(folder)
    if state is None:
        run.found.append("state.json is gone")
    elif state.name != ("second" if run.renamed else state.name):
        run.found.append(f"the run was renamed and is called {state.name}")


def _go_on(run: Run) -> None:
    """A run that is not done goes on from its newest whole checkpoint and ends with the right weights."""
    stage, folder = run.stage, run.folder
    assert folder is not None
    stage.gate.touch()
    before = len(run.refusals)
    complete = max(stage.told("complete"), default=0)
    resumes = len(stage.told("resumed"))
    run.start()
    run.wait()
    if len(run.refusals) > before:
        run.found.append(f"it cannot go on: {run.refusals[before:]}")
        return
    if (status := status_of(folder)).status != "done":
        run.found.append(f"it goes on, and is {status.status}: {status.reason}")
        return
    went_on = stage.told("resumed")[resumes:]
    if not went_on or went_on[0] < complete:
        run.found.append(f"went on from {went_on}, and step {complete} was saved")


def _check_lines(run: Run) -> None:
    """No line that was written is lost, none is written twice, and the result is that of all steps."""
    stage, folder = run.stage, run.folder
    assert folder is not None
    if (weights := (read_json(folder.adapter / "weights.json") or {}).get("weights")) != weights_after(STEPS):
        run.found.append(f"the result has weights {weights}")
    for path in (folder.metrics, folder.events, folder.supervisor_log):
        there = Counter(json.dumps(line) for line in read_last_json_lines(path, _LOST_LINES))
        for line in written_lines(stage.log, path):
            if there[json.dumps(line)] != 1:
                run.found.append(f"{path.name}: a written line is there {there[json.dumps(line)]} times: {line}")
    logged = Counter(line["step"] for line in read_last_json_lines(folder.metrics, _LOST_LINES))
    trained = Counter(stage.told("trained"))
    if any(logged[step] > trained[step] for step in logged):
        run.found.append(f"metrics twice: {dict(logged)} of {dict(trained)}")
    if stage.case.mode in {"once", "short"} and logged != trained:
        run.found.append(f"metrics lost: {dict(logged)} of {dict(trained)}")


def written_lines(log: Path, path: Path) -> list[object]:
    """The lines that calls have written whole into a file."""
    found: list[object] = []
    for call in log.read_text().splitlines():
        *_, name, target, _, _, data, result = call.split("\t")
        if name == "write" and target == str(path) and result == "ok":
            for line in bytes.fromhex(data).splitlines():
                with suppress(ValueError):
                    found.append(json.loads(line))
    return found
