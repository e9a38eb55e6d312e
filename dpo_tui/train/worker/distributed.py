"""What the ranks of a run decide together, by torch.distributed."""

from typing import Any

import torch
from torch import distributed

from dpo_tui.train.worker.stop_requests import Flags


class AnyRank:
    """An agreement (`dpo_tui.train.worker.stop_requests.Agreement`): a flag holds for all ranks if it holds for any.

    Until the process group exists, and in a single process, it is each one's own view.
    """

    def __init__(self) -> None:
        self._group: Any = None

    def __call__(self, flags: Flags) -> Flags:
        """Return the logical or of the flags over all ranks."""
        if not has_peers():
            return flags
        if self._group is None:
            # On the processor, whatever the training uses: over NCCL, reading the answer would make the host wait for
            # the GPU after every step, which costs the overlap of the two.
            self._group = distributed.new_group(backend="gloo")
        together = torch.tensor(flags, dtype=torch.uint8)
        distributed.all_reduce(together, op=distributed.ReduceOp.MAX, group=self._group)
        return tuple(bool(flag) for flag in together.tolist())


def wait_for_ranks() -> None:
    """Return when every rank has called this; at once in a single process."""
    if has_peers():
        distributed.barrier()


def has_peers() -> bool:
    """Whether this process trains together with others."""
    return bool(distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1)
