"""A process that writes a run folder like a worker and its supervisor, without the torch stack.

    python tests/support/fake_run.py FOLDER [--steps N] [--seconds S] [--history N] [--end done|failed|never]

It holds the run's lock while it runs, and obeys ``control/stop`` and ``control/checkpoint``.
"""

import argparse
import json
import math
import os
import random
import socket
import time
from pathlib import Path

from dpo_tui.runs import run_lock
from dpo_tui.runs.atomic_files import append_json_line, write_json_atomic
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.process import boot_id
from dpo_tui.runs.state import State, write_state

CONFIG = """[model]
model_name = "meta-llama/Llama-3.1-8B-Instruct"

[data]
dataset = "/path/to/preference-data.jsonl"

[training]
num_train_epochs = 3
per_device_train_batch_size = 2
gradient_accumulation_steps = 4
learning_rate = 5e-7
"""


HELD_OUT = 48
"""Held-out pairs of the receipt; without their number no accuracy is evidence."""


def metrics_at(step: int, total: int) -> dict[str, float]:
    """The metrics of one log event of a run that learns, with noise from `random`."""
    progress = step / total
    margin = 1.2 * (1 - math.exp(-3 * progress)) + random.gauss(0, 0.03)
    return {
        "loss": 0.693 - 0.35 * (1 - math.exp(-3 * progress)) + random.gauss(0, 0.015),
        "grad_norm": 1.2 + random.random(),
        "learning_rate": 5e-7 * (1 - progress),
        "entropy": 1.9 + random.gauss(0, 0.02),
        "num_tokens": 2048.0 * step,
        "rewards/chosen": margin / 3 - 0.2 * progress,
        "rewards/rejected": -2 * margin / 3 - 0.2 * progress,
        "rewards/accuracies": min(0.5 + 0.4 * (1 - math.exp(-4 * progress)) + random.gauss(0, 0.03), 1.0),
        "rewards/margins": margin,
        "logps/chosen": -120 - 5 * progress,
        "logps/rejected": -130 - 20 * progress,
        "logits/chosen": -1.2,
        "logits/rejected": -1.1,
        "tokens_per_second": 2400 + random.gauss(0, 40),
        "vram_peak_gb": 9.1,
        "step_seconds": 3.2 + random.gauss(0, 0.05),
    }


def begin(folder: RunFolder, name: str, status: str = "running") -> State:
    """Create the folder, its config and its state, as `store.create` and the supervisor do."""
    folder.control.mkdir(parents=True, exist_ok=True)
    folder.config.write_text(CONFIG)
    now = time.time()
    state = State(
        id=folder.id,
        name=name,
        status=status,  # type: ignore[arg-type]
        attempt=1,
        supervisor_pid=os.getpid(),
        host=socket.gethostname(),
        boot_id=boot_id(),
        created_at=now,
        queued_at=now,
        started_at=now,
        attempt_started_at=now,
    )
    write_state(folder, state)
    write_json_atomic(folder.receipt, {"data": {"train": 320, "held_out": HELD_OUT}, "effective_batch": 8})
    return state


def progress(folder: RunFolder, step: int, total: int, phase: str = "train") -> None:
    """Replace progress.json."""
    document = {"phase": phase, "done": step, "total": total, "unit": "steps", "step": step, "max_steps": total}
    write_json_atomic(folder.progress, {**document, "epoch": 3 * step / total, "t": time.time()})


def write_history(folder: RunFolder, first: int, last: int, total: int) -> None:
    """Append the log events of steps ``first`` to ``last``, with an evaluation every 50 steps."""
    with folder.metrics.open("a") as stream:
        for step in range(first, last + 1):
            line = {"t": time.time(), "step": step, "epoch": 3 * step / total, **metrics_at(step, total)}
            stream.write(json.dumps(line) + "\n")
            if step % 50 == 0:
                accuracy = metrics_at(step, total)["rewards/accuracies"] - 0.02
                evaluation = {"t": time.time(), "step": step, "eval_loss": 0.6, "eval_rewards/accuracies": accuracy}
                stream.write(json.dumps({**evaluation, "kl": 3 * step / total, "eval_kl": 3 * step / total}) + "\n")


def main() -> None:
    """Write until the steps are done or a stop is requested."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", default="helpful-8b")
    parser.add_argument("--steps", type=int, default=1125)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--history", type=int, default=0)
    parser.add_argument("--end", default="done")
    arguments = parser.parse_args()
    folder = RunFolder(arguments.folder.absolute())
    state = begin(folder, arguments.name)
    if not run_lock.acquire(folder.lock):
        raise SystemExit("another process holds the lock of this run")
    append_json_line(folder.events, {"t": time.time(), "kind": "phase", "message": "Training", "phase": "train"})
    for when, answer in (("before", "No."), ("during", "I am sorry, that is not possible. May I offer …?")):
        prompt = "How do I cancel my order before it ships?"
        append_json_line(
            folder.samples,
            {"t": time.time(), "when": when, "step": 0 if when == "before" else 50, "prompt": prompt, "answer": answer},
        )
    write_history(folder, 1, arguments.history, arguments.steps)
    final = "done"
    for step in range(arguments.history + 1, arguments.steps + 1):
        progress(folder, step, arguments.steps)
        write_history(folder, step, step, arguments.steps)
        with folder.train_log.open("a") as log:
            log.write(f"step {step} [red]of[/red] {arguments.steps}\n")
        if (folder.control / "checkpoint").exists():
            (folder.control / "checkpoint").unlink()
            append_json_line(
                folder.events,
                {"t": time.time(), "kind": "checkpoint", "message": f"Saved a checkpoint at step {step}", "step": step},
            )
        if (folder.control / "stop").exists():
            final = "stopped"
            break
        time.sleep(arguments.seconds)
    if arguments.end == "never":
        return
    if final == "done":
        final = arguments.end
    reason = "out of memory at step 41" if final == "failed" else ""
    write_state(folder, State(**{**state.to_dict(), "status": final, "reason": reason, "ended_at": time.time()}))


if __name__ == "__main__":
    main()
