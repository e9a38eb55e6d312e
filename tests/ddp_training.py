"""Plain TRL and ours, one after the other, in every process of a `torchrun`; the first writes what came of it.

python -m torch.distributed.run --standalone --nproc-per-node 2 tests/ddp_training.py CONFIG OUT
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dpo_tui.config.files import load
from tests.test_exactness import ours, plain_trl


def main(config_path: str, target: str) -> None:
    """Train both ways; write logs, the weights' cosine and our report."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

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
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
