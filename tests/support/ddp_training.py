"""Trains with plain TRL and then with dpo-tui in every process of a `torchrun`; rank 0 writes both logs.

python -m torch.distributed.run --standalone --nproc-per-node 2 tests/support/ddp_training.py KIND OUT CONFIG [CONFIG …]

KIND is `ddp` or `fsdp`.
"""

import faulthandler
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dpo_tui.config.files import load
from dpo_tui.config.schema import Config
from tests.support.trained_both_ways import ours, plain_trl

PATIENCE = 200
"""Seconds; six times what the slower kind takes on two cores that others use too."""

# What `accelerate launch --use_fsdp --fsdp_version 2` sets: the weights of each layer are spread over the processes.
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}


def shard_on_processors() -> None:
    """Make accelerate use FSDP on CPUs too, where 1.15 silently ignores its settings."""
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    original_init = AcceleratorState.__init__

    def sharded(state: Any, *arguments: Any, **options: Any) -> None:
        original_init(state, *arguments, **options)
        if plugin := options.get("fsdp_plugin"):
            state.fsdp_plugin = plugin
            state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = sharded


def compare(kind: str, config: Config) -> dict[str, Any]:
    """Train both ways; return both logs, the cosine of the trained weights, and the report of our shortcuts."""
    import torch
    from torch.distributed.fsdp import FSDPModule
    from torch.nn.parallel import DistributedDataParallel

    plain, mine = plain_trl(config), ours(config)
    wrapper = FSDPModule if kind == "fsdp" else DistributedDataParallel
    return {
        "wrapped": all(isinstance(one.trainer.model_wrapped, wrapper) for one in (plain, mine)),
        "plain": plain.log,
        "ours": mine.log,
        "cosine": torch.cosine_similarity(plain.weights, mine.weights, dim=0).item(),
        "shortcuts": mine.trainer.shortcuts.report(),
    }


def main(kind: str, target: str, *configs: str) -> None:
    """Compare for every config; rank 0 writes the results as JSON."""
    # Ranks that wait for each other forever print where, before the test's own timeout.
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    rank = os.environ["RANK"]
    os.environ["DPO_TUI_HOME"] += f"/{rank}"
    if kind == "fsdp":
        os.environ.update(FSDP)
        shard_on_processors()
    found = [compare(kind, load(Path(path), {}).config) for path in configs]
    if rank == "0":
        Path(target).write_text(json.dumps(found), encoding="utf-8")
    # Without the interpreter's finalisation: freeing the process group waits, holding the GIL, for a thread of gloo
    # that may be waiting for the GIL (torch 2.13, seen once in eleven runs on busy cores).
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
