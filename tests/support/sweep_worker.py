"""A worker that trains nothing, in place of the real one wherever a run of this machine starts; its config decides.

`stand_in(folder)` gives the environment in which every ``python -m dpo_tui.train`` is this worker. It makes eight steps
and evaluates at every second one. Its held-out accuracy falls with beta. It fails where learning_rate is 9e-6. Where
there is a file ``hold`` in the home, it holds at its third step until there is a file ``go`` in its folder or there.
"""

import os
import sys
import time
from pathlib import Path

from dpo_tui.runs import control_requests
from dpo_tui.runs.atomic_files import append_json_line, write_json_atomic
from dpo_tui.runs.complete_checkpoints import MARKER
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.frozen_config import read_settings
from dpo_tui.runs.process import set_pdeathsig

STEPS, HELD, PAIRS = 8, 3, 400
_SITE = """
import os, sys
arguments = sys.orig_argv
if "-m" in arguments and arguments[arguments.index("-m") + 1] == "dpo_tui.train":
    from tests.support.sweep_worker import work
    code = work(arguments[-1])
    sys.stdout.flush()
    os._exit(code)
"""


def stand_in(folder: Path) -> str:
    """Write a ``sitecustomize`` that is this worker into a folder; return what ``PYTHONPATH`` must be."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(_SITE)
    return os.pathsep.join([str(folder), str(Path(__file__).parents[2])])


def accuracy_of(settings: dict[str, object]) -> float:
    """The accuracy that a run of these settings ends with."""
    return round(0.95 - float(str(settings.get("beta", 0.1))), 3)


def work(path: str) -> int:
    """Make the steps; the return value is the exit code."""
    set_pdeathsig()
    folder = RunFolder(Path(path))
    settings = read_settings(folder.config)
    write_json_atomic(folder.receipt, {"data": {"held_out": PAIRS, "sha256": "0"}})
    step = max((int(one.name.split("-")[1]) for one in folder.checkpoints.glob("checkpoint-*")), default=0)
    if settings.get("learning_rate") == 9e-6:
        failed = {"t": time.time(), "kind": "failed", "message": "the rate is cursed", "hint": "Take another."}
        append_json_line(folder.events, failed)
        return 1
    while step < STEPS:
        step += 1
        _log(folder, step, accuracy_of(settings))
        while True:
            if control_requests.is_requested(folder, control_requests.STOP):
                _save(folder, step)
                control_requests.clear(folder, control_requests.STOP)
                return 130
            if step != HELD or not _held(folder):
                break
            time.sleep(0.02)
        time.sleep(0.1)
    _save(folder, step)
    folder.adapter.mkdir(exist_ok=True)
    return 0


def _held(folder: RunFolder) -> bool:
    home = folder.path.parent.parent
    return (home / "hold").exists() and not (folder.path / "go").exists() and not (home / "go").exists()


def _log(folder: RunFolder, step: int, accuracy: float) -> None:
    now = time.time()
    append_json_line(folder.metrics, {"t": now, "step": step, "loss": 0.69 - step / 100, "step_seconds": 0.1})
    if step % 2 == 0:
        figures = {
            "eval_rewards/accuracies": accuracy,
            "eval_rewards/margins": 0.1 * step,
            "eval_loss": 0.6,
            "eval_kl": 1.5,
        }
        append_json_line(folder.metrics, {"t": now, "step": step, **figures})
    progress = {"phase": "train", "done": step, "total": STEPS, "unit": "step", "step": step, "max_steps": STEPS}
    write_json_atomic(folder.progress, {**progress, "epoch": step / STEPS, "t": now})


def _save(folder: RunFolder, step: int) -> None:
    target = folder.checkpoints / f"checkpoint-{step}"
    target.mkdir(parents=True, exist_ok=True)
    (target / MARKER).write_text('{"files": {}}')


if __name__ == "__main__":
    sys.exit(work(sys.argv[1]))
