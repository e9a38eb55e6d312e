"""The stage of one fault: a home of its own, runs in it, commands, and what was found wrong."""

import fcntl
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.fault_kinds import checks
from benchmarks.fault_kinds.commands import Command, RunningCommand, in_child
from benchmarks.fault_kinds.processes import Process, end_all, processes_of, running_now
from dpo_tui.config.files import from_values
from dpo_tui.config.toml_text import to_toml
from dpo_tui.runs import start_run, store
from dpo_tui.runs.folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
STANDIN = Path(__file__).with_name("standin")
DEMO = ROOT / "dpo_tui" / "demo"
PATIENCE = 60.0
"""Seconds that are waited for what must come: generous, since the machine may be busy."""


class Stage:
    """Where one fault, or one run with several faults after one another, takes place.

    Args:
        folder: of its own, deleted at the end by whoever made it.
        key: of the fault; what is random depends on it and on the seed alone.
        seed: of the campaign.
        bystander: folder of a finished run that a copy is made of; None for none.

    Attributes:
        home: the home of its runs.
        rng: all that is random.
        shared: folder of the campaign, for what is made once.
        real_run: the run of a session that trains for real.
        at_end: called when all faults of a session are done.
        violations: what was found wrong.
        notes: what else a person should know who looks at this fault.
    """

    def __init__(self, folder: Path, key: str, seed: int, bystander: Path | None = None) -> None:
        self.folder = folder
        self.home = folder / "home"
        self._other_processes = running_now()
        self.begin_fault(key, seed)
        self.worker_options = folder / "worker.json"
        (self.home / "runs").mkdir(parents=True, mode=0o700)
        self.home.chmod(0o700)
        self.runs: list[RunFolder] = []
        self.shared = folder.parent
        self.real_run: Any = None
        self.at_end: list[Callable[[Stage], None]] = []
        os.environ.update(
            DPO_TUI_HOME=str(self.home),
            DPO_TUI_STOP_GRACE="1",
            DPO_TUI_DISK_PATIENCE="4",
            FAULTS_WORKER=str(self.worker_options),
            PYTHONPATH=os.pathsep.join((str(STANDIN), str(ROOT))),
            COLUMNS="100",
            HF_HUB_OFFLINE="1",
        )
        self._original = bystander
        self.bystander: RunFolder | None = None
        self.copy_bystander()

    def begin_fault(self, key: str, seed: int) -> None:
        """Begin a fault: with its own random numbers, and nothing found yet."""
        self.rng = random.Random(f"{seed}:{key}")
        self.violations: list[str] = []
        self.notes: list[str] = []

    def copy_bystander(self) -> None:
        """Put the finished run into the home."""
        if self._original is not None:
            self.bystander = RunFolder(self.home / "runs" / self._original.name)
            shutil.copytree(self._original, self.bystander.path)
            self._bystander_before = digests(self.bystander.path)

    def adopt_runs(self) -> None:
        """Take all runs of the home for this fault's, but the one beside."""
        ids = sorted(name for name in os.listdir(self.home / "runs") if name[0] == "2")
        beside = self.bystander.id if self.bystander else ""
        self.runs = [RunFolder(self.home / "runs" / one) for one in ids if one != beside]

    def wrong(self, found: Iterable[str]) -> None:
        """Note what a check has found; each once."""
        self.violations += [one for one in found if one not in self.violations]

    def train_by(self, **options: Any) -> None:
        """Write the options of the stand-in worker for the attempts that follow."""
        self.worker_options.write_text(json.dumps(options), encoding="utf-8")

    def let_go(self, step: int | None = None) -> None:
        """Let a worker that holds go on: from this step, or from all."""
        self.worker_options.with_name("go" if step is None else f"go-{step}").touch()

    def config_text(self, **changes: Any) -> str:
        """The frozen config of a run; the stand-in reads it and trains nothing of it."""
        values = {
            "model_name": str(DEMO / "model"),
            "dataset": str(DEMO / "pairs.jsonl"),
            "gpus": "none",
            "max_steps": 12,
        }
        return to_toml(from_values(values | changes))

    def start(self, name: str = "faulted", **options: Any) -> RunFolder:
        """Make a run and start it with these options of the stand-in."""
        self.train_by(**options)
        text = self.config_text()

        def begin() -> Path:
            folder = store.create(text, name=name, devices=[])
            start_run.start(folder)
            return folder.path

        run = RunFolder(in_child(begin))
        self.runs.append(run)
        return run

    def started_at(self, step: int, **options: Any) -> RunFolder:
        """Make a run that holds at a step, and wait until it is there."""
        run = self.start(**({"hold_at": step} | options))
        self.until(lambda: self.last_step(run) >= step and self.worker(run), f"the worker to reach step {step}")
        return run

    def call(self, *argv: str, seconds: float = PATIENCE, codes: Iterable[int] = checks.EXIT_CODES) -> Command:
        """Call a command, and check what every output must be."""
        return self.check(RunningCommand(argv, self.folder).wait(seconds), codes)

    def call_fresh(
        self,
        *argv: str,
        seconds: float = PATIENCE,
        codes: Iterable[int] = checks.EXIT_CODES,
        environment: dict[str, str] | None = None,
    ) -> Command:
        """Call a command in a new interpreter: for libraries and variables that are read when it begins."""
        command = [sys.executable, "-m", "dpo_tui", *argv]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=os.environ | (environment or {}),
                check=False,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            ended = Command(argv, None, "", "")
        else:
            texts = [text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr)]
            ended = Command(argv, done.returncode, *texts)
        return self.check(ended, codes)

    def check(self, command: Command, codes: Iterable[int] = checks.EXIT_CODES) -> Command:
        """Check what every output must be."""
        quotes = command.argv[0] == "logs"
        self.wrong(checks.output_is_clean(command.argv[0], command.code, command.text, codes, quotes=quotes))
        return command

    def launch(self, *argv: str) -> RunningCommand:
        """Begin a command without waiting for it."""
        return RunningCommand(argv, self.folder)

    def status(self, run: RunFolder) -> dict[str, Any]:
        """What ``status --json`` says; empty where it says nothing."""
        command = self.call("status", run.id, "--json")
        try:
            found = json.loads(command.out)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def until(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
        """Wait until a condition returns something true, and return that.

        Raises:
            NeverCame: it did not.
        """
        deadline = time.monotonic() + seconds
        while True:
            if found := condition():
                return found
            if time.monotonic() > deadline:
                raise NeverCame(f"waited {seconds:g} s in vain for {what}")
            time.sleep(0.05)

    def processes(self) -> list[Process]:
        """All processes of the home that live."""
        return processes_of(self.home, self._other_processes)

    def supervisor(self, run: RunFolder) -> Process | None:
        """The run's supervisor, if it lives."""
        return next((one for one in self.processes() if one.is_supervisor and one.belongs_to(run.path)), None)

    def worker(self, run: RunFolder) -> Process | None:
        """The run's worker, if it lives."""
        return next((one for one in self.processes() if one.is_worker and one.belongs_to(run.path)), None)

    def supervisor_pid(self, run: RunFolder) -> int:
        """The pid of the run's supervisor, which must live.

        Raises:
            NeverCame: it does not.
        """
        return _pid(self.supervisor(run), "supervisor")

    def worker_pid(self, run: RunFolder) -> int:
        """The pid of the run's worker, which must live.

        Raises:
            NeverCame: it does not.
        """
        return _pid(self.worker(run), "worker")

    def last_step(self, run: RunFolder) -> int:
        """The last step in metrics.jsonl; 0 without one."""
        return max(checks.steps_in(checks.whole_lines(run.metrics)), default=0)

    def bystander_is_unharmed(self) -> None:
        """Check that the finished run beside is as it was, and listed."""
        if self.bystander is None:
            return
        self.wrong(checks.others_are_unharmed(self._bystander_before, digests(self.bystander.path)))
        self.wrong(checks.is_listed(self.call("runs", "--json").out, self.bystander.id, "done"))

    def close(self) -> None:
        """End what still runs in the home."""
        end_all(self.home)


class NeverCame(Exception):
    """What a fault waited for did not come."""


def _pid(process: Process | None, role: str) -> int:
    if process is None:
        raise NeverCame(f"the run has no {role}")
    return process.pid


def digests(folder: Path) -> dict[str, str]:
    """The digest of each file of a folder, by its name in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def lock_owner(path: Path) -> int | None:
    """Whether a run's lock is held: 0 where it is, by whomever; None where it is free or not there."""
    try:
        with open(path, "rb+") as stream:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except OSError:
        return 0
    return None
