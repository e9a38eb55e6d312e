"""A worker whose training is faked and whose everything else is the product's.

    python faked_training.py RUN_DIR

The process is `dpo_tui.train.__main__` with journal, requests, checkpoints, saved result and failures; in the place of
models and TRL stands one number that each step changes. What really happened it writes into the file that
``FAKED_TRUTH`` names, outside of the run's folder.
"""

import json
import os
import sys
import time
from pathlib import Path
from types import ModuleType

if __name__ == "__main__":
    # Of these, one name each is needed, and their imports would take most of the time.
    sys.modules |= {name: ModuleType(name) for name in ("torch", "dpo_tui.config.schema")}
    sys.modules["torch"].OutOfMemoryError = MemoryError  # type: ignore[attr-defined]
    sys.modules["dpo_tui.config.schema"].Config = object  # type: ignore[attr-defined]

from dpo_tui.runs import control_requests
from dpo_tui.runs.atomic_files import read_json, write_json_atomic, write_text_atomic
from dpo_tui.runs.complete_checkpoints import step_of
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.held_out_record import write_held_out
from dpo_tui.train import __main__ as worker
from dpo_tui.train.worker.checkpoints import checkpoint_to_resume, mark_complete, prune
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.result_folder import save_result
from dpo_tui.train.worker.stop_requests import StopRequested, StopRequests

STEPS = 4
GATE_STEP = 2
"""The step at which the training waits for the file that ``FAKED_GATE`` names, for a while."""
_GATE_SECONDS = 20.0
_START = 7


def next_weights(weights: int) -> int:
    """What a step makes of the weights: a run that was resumed at another step than it says ends with others."""
    return (weights * 1103515245 + 12345) % (1 << 31)


def weights_after(step: int) -> int:
    """The weights after this many steps from the start."""
    weights = _START
    for _ in range(step):
        weights = next_weights(weights)
    return weights


def tell(kind: str, value: int) -> None:
    """Write down what has happened."""
    descriptor = os.open(os.environ["FAKED_TRUTH"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{kind} {value}\n".encode())
    os.close(descriptor)


def train(folder: RunFolder, journal: Journal, stop_requests: StopRequests) -> None:
    """The five steps of a run, as `dpo_tui.train.run_training` does them."""
    tell("worker", os.getpid())
    journal.phase("load-model")
    checkpoint = checkpoint_to_resume(folder.checkpoints, journal)
    step, weights = 0, _START
    if checkpoint is not None:
        step, weights = step_of(checkpoint), (read_json(checkpoint / "weights.json") or {})["weights"]
    tell("resumed", step)
    write_held_out(folder, ["a prompt"])
    write_json_atomic(folder.receipt, {"data": {}})
    control_requests.clear(folder, control_requests.ACCEPT_CHANGED_DATA)
    journal.phase("train")
    stop_requests.can_save = True
    while step < STEPS:
        step, weights = step + 1, next_weights(weights)
        tell("trained", step)
        journal.metrics(step, step / STEPS, {"loss": 1 / step})
        journal.progress(step, STEPS, "steps", step=step, max_steps=STEPS, epoch=step / STEPS)
        if step == GATE_STEP:
            _wait_at_gate()
        requests = stop_requests.take_requests()
        if requests.stop or requests.checkpoint or step in (1, 3, STEPS):
            _save_checkpoint(folder, step, weights)
            journal.event("checkpoint", f"Saved a checkpoint at step {step}", step=step)
        if requests.stop:
            raise StopRequested
    journal.phase("save")
    save_result(lambda path: _write(Path(path), weights), folder.adapter, journal.rank, lambda saved: None)
    write_text_atomic(folder.model_card, "A model card\n")
    write_json_atomic(folder.receipt, {"data": {}, "results": {"steps": step}})
    journal.phase("done")


def _save_checkpoint(folder: RunFolder, step: int, weights: int) -> None:
    path = folder.checkpoints / f"checkpoint-{step}"
    _write(path, weights)
    (path / "trainer_state.json").write_text('{"global_step": 1}')
    mark_complete(path)
    tell("complete", step)
    prune(folder.checkpoints, keep=1)


def _write(path: Path, weights: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / "weights.json").write_text(json.dumps({"weights": weights}))


def _wait_at_gate() -> None:
    deadline = time.monotonic() + _GATE_SECONDS
    while not os.path.exists(os.environ["FAKED_GATE"]) and time.monotonic() < deadline:
        time.sleep(0.01)


def main() -> int:
    """Train the run of the command line, and tell the exit code before it can be lost."""
    worker._train = train
    code = worker.main(sys.argv[1])
    tell("exit", code)
    return code


if __name__ == "__main__":
    sys.exit(main())
