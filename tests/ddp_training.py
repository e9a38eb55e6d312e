"""Plain TRL and ours, one after the other, in every process of a `torchrun`; the first writes what came of it.

python -m torch.distributed.run --standalone --nproc-per-node 2 tests/ddp_training.py CONFIG OUT
"""

import faulthandler
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dpo_tui.config.files import load
from tests.test_exactness import ours, plain_trl

PATIENCE = 200
"""Seconds; twelve times what it takes on two idle cores."""


def main(config_path: str, target: str) -> None:
    """Train both ways; write logs, the weights' cosine and our report."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    # Processes that wait for each other say where before the test gives up on them.
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    rank = os.environ["RANK"]
    os.environ["DPO_TUI_HOME"] += f"/{rank}"
    config = load(Path(config_path), {}).config
    plain, mine = plain_trl(config), ours(config)
    if rank == "0":
        found = {
            "wrapped": isinstance(mine.trainer.model_wrapped, DistributedDataParallel),
            "plain": plain.log,
            "ours": mine.log,
            "cosine": torch.cosine_similarity(plain.weights, mine.weights, dim=0).item(),
            "shortcuts": mine.trainer.shortcuts.report(),
        }
        Path(target).write_text(json.dumps(found), encoding="utf-8")
    # Without the interpreter's own end: freeing the process group waits, holding the interpreter, for a thread of gloo
    # that may be waiting for the interpreter (torch 2.13, seen once in eleven runs on busy cores).
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
