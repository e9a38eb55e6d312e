"""Training by two ranks of which only rank 1 sees the requests; each rank writes which steps it made and saved.

python -m torch.distributed.run --standalone --nproc-per-node 2 tests/support/ranks_training.py OUT CONFIG RUN_DIR

Rank 1 reads requests from the run's folder, where a checkpoint is requested in step 2 and a stop in step 4. Rank 0
reads them from a folder without requests.
"""

import faulthandler
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dpo_tui.config.files import load
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.ranks import Rank

PATIENCE = 100
"""Seconds until a hang is reported: ranks that followed different requests would wait for each other forever."""
REQUESTS = {2: "checkpoint", 4: "stop"}


def main(target: str, path: str, run: str) -> None:
    """Train, and write this rank's steps, the steps at which it saved, and whether it stopped."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    from transformers import TrainerCallback

    from dpo_tui.train.model.device import choose_device
    from dpo_tui.train.model.load import load_model, load_tokenizer
    from dpo_tui.train.trainer.callbacks import RunCallback
    from dpo_tui.train.trainer.run_datasets import load_datasets
    from dpo_tui.train.trainer.trainer_registry import build_trainer
    from dpo_tui.train.worker.distributed import AllReduceAny
    from dpo_tui.train.worker.journal import Journal
    from dpo_tui.train.worker.stop_requests import StopRequests

    rank = Rank.from_environment()
    folder = RunFolder(Path(run))
    requests_in = folder if rank.rank == 1 else RunFolder(Path(run) / "no-requests")
    requests_in.control.mkdir(parents=True, exist_ok=True)
    saved: list[int] = []

    class Requester(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if rank.rank == 1 and (request := REQUESTS.get(state.global_step + 1)):
                (requests_in.control / request).touch()

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            saved.append(state.global_step)

    config = load(Path(path), {}).config
    device = choose_device(config)
    stop_requests = StopRequests(requests_in, rank, AllReduceAny())
    callback = RunCallback(Journal(folder, rank), stop_requests, config.save_total_limit)
    trainer = build_trainer(
        config,
        folder,
        device,
        model=load_model(config, device),
        tokenizer=load_tokenizer(config)[0],
        rows=load_datasets(config),
        callback=callback,
        resumes=False,
    )
    trainer.add_callback(Requester())
    trainer.train()
    found = {
        "steps": trainer.state.global_step,
        "saved": saved,
        "stopped": callback.stopped,
        "requests": sorted(os.listdir(requests_in.control)),
    }
    Path(f"{target}.{rank.rank}").write_text(json.dumps(found), encoding="utf-8")
    # Without the interpreter's finalisation, which may wait for a thread of gloo: see ddp_training.py.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
