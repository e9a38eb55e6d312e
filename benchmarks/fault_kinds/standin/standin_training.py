"""Training that trains nothing, in the place of the real one: steps, metrics, checkpoints, requests, a result.

FAULTS_WORKER names a JSON file with the options; it is read anew by each attempt.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dpo_tui.config.files import load
from dpo_tui.runs.atomic_files import write_text_atomic
from dpo_tui.runs.complete_checkpoints import step_of
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.worker.checkpoints import checkpoint_to_resume, mark_complete, prune
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequested, StopRequests

DEFAULTS: dict[str, Any] = {
    "steps": 12,
    "save_every": 3,
    "step_seconds": 0.01,
    "hold_at": None,
    "children": 0,
    "stubborn": False,
    "stubborn_children": False,
    "hang_at_exit": False,
    "checkpoint_bytes": 1000,
    "memory_at": None,
    "files_at": None,
    "unsaved_end": False,
}
"""hold_at: wait at this step, or at each of several, until ``go`` or ``go-STEP`` lies beside the options. memory_at:
take memory without end from this step on; files_at: open files without end. stubborn: ignore SIGTERM. unsaved_end: no
checkpoint at the last step."""

_CHILD = """
import signal, sys, time
if sys.argv[1] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
"""


def train(folder: RunFolder, journal: Journal, stop_requests: StopRequests) -> None:
    """Behave as the options say."""
    path = Path(os.environ["FAULTS_WORKER"])
    options = DEFAULTS | json.loads(path.read_text(encoding="utf-8"))
    load(folder.config, {})
    if options["stubborn"]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    journal.phase("load-model")
    kind = "stubborn" if options["stubborn_children"] else "usual"
    children = [subprocess.Popen([sys.executable, "-S", "-c", _CHILD, kind]) for _ in range(options["children"])]
    checkpoint = checkpoint_to_resume(folder.checkpoints, journal)
    step = step_of(checkpoint) if checkpoint else 0
    stop_requests.can_save = True
    journal.phase("train")
    _Loop(folder, journal, stop_requests, options, path.with_name("go")).run(step)
    journal.phase("save")
    _save_result(folder)
    journal.phase("done")
    for child in children:
        child.terminate()
    while options["hang_at_exit"]:
        time.sleep(0.1)


class _Loop:
    def __init__(
        self, folder: RunFolder, journal: Journal, stop_requests: StopRequests, options: dict[str, Any], go: Path
    ) -> None:
        self._folder, self._journal, self._requests = folder, journal, stop_requests
        self._options, self._go = options, go
        hold_at = options["hold_at"]
        self._holds = hold_at if isinstance(hold_at, list) else [hold_at]
        self._taken: list[Any] = []

    def run(self, step: int) -> None:
        steps = self._options["steps"]
        while step < steps:
            step += 1
            time.sleep(self._options["step_seconds"])
            self._exhaust(step)
            self._journal.metrics(step, step / steps, {"loss": 0.7 - step / 100, "learning_rate": 1e-5})
            self._journal.progress(step, steps, "steps", step=step, max_steps=steps, epoch=step / steps)
            saved = self._save_if_due(step, steps)
            self._follow_requests(step, saved)
            while step in self._holds and not self._released(step):
                time.sleep(0.02)
                self._journal.progress(step, steps, "steps", step=step, max_steps=steps, epoch=step / steps)
                self._follow_requests(step, saved)

    def _released(self, step: int) -> bool:
        return self._go.exists() or self._go.with_name(f"go-{step}").exists()

    def _save_if_due(self, step: int, steps: int) -> bool:
        due = step % self._options["save_every"] == 0 or (step == steps and not self._options["unsaved_end"])
        if due:
            self._save(step)
        return due

    def _follow_requests(self, step: int, saved: bool = False) -> None:
        requests = self._requests.take_requests()
        if (requests.stop or requests.checkpoint) and not saved:
            self._save(step)
        if requests.stop:
            raise StopRequested

    def _save(self, step: int) -> None:
        target = self._folder.checkpoints / f"checkpoint-{step}"
        target.mkdir(parents=True, exist_ok=True)
        (target / "adapter_model.safetensors").write_bytes(os.urandom(self._options["checkpoint_bytes"]))
        (target / "optimizer.pt").write_bytes(os.urandom(self._options["checkpoint_bytes"]))
        (target / "trainer_state.json").write_text(json.dumps({"global_step": step}), encoding="utf-8")
        mark_complete(target)
        self._journal.event("checkpoint", f"Saved {target.name}", step=step)
        prune(self._folder.checkpoints, 2)

    def _exhaust(self, step: int) -> None:
        if self._options["memory_at"] == step:
            while True:
                self._taken.append(bytearray(50_000_000))
        if self._options["files_at"] == step:
            while True:
                self._taken.append(open(os.devnull, "rb"))  # noqa: SIM115 - never closed, which is the fault


def _save_result(folder: RunFolder) -> None:
    folder.adapter.mkdir(exist_ok=True)
    (folder.adapter / "adapter_model.safetensors").write_bytes(os.urandom(1000))
    (folder.adapter / "adapter_config.json").write_text("{}", encoding="utf-8")
    write_text_atomic(folder.model_card, "# A run of the stand-in\n")
