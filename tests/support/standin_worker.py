"""A worker that trains nothing, for tests of the run folder: it follows the worker's protocol, and its options.

    python standin_worker.py RUN_DIR [options]

It makes steps, logs metrics, saves checkpoints, resumes from the newest one, and honours stop and checkpoint requests.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from dpo_tui.runs import control_requests
from dpo_tui.runs.atomic_files import append_json_line, write_json_atomic
from dpo_tui.runs.complete_checkpoints import MARKER
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.process import set_pdeathsig

PARSER = argparse.ArgumentParser()
PARSER.add_argument("folder", type=Path)
PARSER.add_argument("--steps", type=int, default=4)
PARSER.add_argument("--hold-at", type=int, help="wait at this step until a file `go` is in the run folder")
PARSER.add_argument("--hold-attempts", type=int, default=1, help="hold in this many attempts, then no more")
PARSER.add_argument("--fits", type=int, help="run out of GPU memory with a bigger micro-batch than this")
PARSER.add_argument("--micro", type=int, default=4, help="the config's micro-batch")
PARSER.add_argument("--exit", type=int, default=0, help="the exit code at the end")
PARSER.add_argument("--fail", help="write this as a failed event before the end")
PARSER.add_argument("--stubborn", action="store_true", help="ignore SIGTERM")
PARSER.add_argument("--litter", action="store_true", help="leave two processes behind, one in a session of its own")
PARSER.add_argument("--no-checkpoints", action="store_true")

LITTER = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def main() -> int:
    """Behave as the options say; the return value is the exit code."""
    options = PARSER.parse_args()
    folder = RunFolder(options.folder)
    signals: list[int] = []
    signal.signal(signal.SIGTERM, signal.SIG_IGN if options.stubborn else lambda number, frame: signals.append(number))
    set_pdeathsig()
    with open(folder.path / "worker-env.jsonl", "a", encoding="utf-8") as out:
        out.write(json.dumps(dict(os.environ)) + "\n")
    attempts = len((folder.path / "worker-env.jsonl").read_text().splitlines())
    if options.litter:
        litter = [subprocess.Popen([sys.executable, "-c", LITTER], start_new_session=own).pid for own in (False, True)]
        (folder.path / "litter.json").write_text(json.dumps(litter))
    step = max((int(path.name.split("-")[1]) for path in folder.checkpoints.glob("checkpoint-*")), default=0)
    sys.stdout.write(f"starting at step {step}\n")
    while step < options.steps:
        step += 1
        if options.fits is not None and int(os.environ.get("DPO_TUI_MICRO_BATCH", options.micro)) > options.fits:
            sys.stderr.write("out of memory\n")
            return 75
        _log(folder, step, options.steps)
        while True:
            if control_requests.is_requested(folder, control_requests.CHECKPOINT):
                _save(folder, step)
                control_requests.clear(folder, control_requests.CHECKPOINT)
            if signals or control_requests.is_requested(folder, control_requests.STOP):
                _save(folder, step)
                control_requests.clear(folder, control_requests.STOP)
                return 130
            holding = options.hold_at == step and attempts <= options.hold_attempts
            if not holding or (folder.path / "go").exists():
                break
            time.sleep(0.02)
    if not options.no_checkpoints:
        _save(folder, step)
    if options.fail:
        append_json_line(
            folder.events, {"t": time.time(), "kind": "failed", "message": options.fail, "hint": "Do it right."}
        )
    return options.exit


def _log(folder: RunFolder, step: int, last: int) -> None:
    now = time.time()
    append_json_line(folder.metrics, {"t": now, "step": step, "loss": 0.69 - step / 100, "step_seconds": 0.1})
    progress = {"phase": "train", "done": step, "total": last, "unit": "step", "step": step, "max_steps": last}
    write_json_atomic(folder.progress, {**progress, "epoch": step / last, "t": now})
    sys.stdout.write(f"step {step}\n")


def _save(folder: RunFolder, step: int) -> None:
    target = folder.checkpoints / f"checkpoint-{step}"
    target.mkdir(parents=True, exist_ok=True)
    (target / MARKER).write_text('{"files": {}}')
    append_json_line(folder.events, {"t": time.time(), "kind": "checkpoint", "message": f"saved step {step}"})


if __name__ == "__main__":
    sys.exit(main())
