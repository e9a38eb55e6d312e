"""Collectives of the worker over torch.distributed, beside those of training: flags, a barrier."""

from typing import Any

import torch
from torch import distributed

from dpo_tui.train.worker.stop_requests import Flags


class AllReduceAny:
    """All-reduce of flags: a flag holds for all ranks if it holds for any (a `stop_requests.FlagReduction`).

    Before the process group exists, and in a single process, it returns the flags of this process.
    """

    def __init__(self) -> None:
        self._group: Any = None

    def __call__(self, flags: Flags) -> Flags:
        """Return the logical or of the flags over all ranks."""
        if not has_peers():
            return flags
        if self._group is None:
            # gloo, on the CPU, whatever training uses: with NCCL, reading the result would synchronise host and GPU
            # after every step, and the host could no longer queue kernels ahead.
            self._group = distributed.new_group(backend="gloo")
        combined = torch.tensor(flags, dtype=torch.uint8)
        distributed.all_reduce(combined, op=distributed.ReduceOp.MAX, group=self._group)
        return tuple(bool(flag) for flag in combined.tolist())


def wait_for_ranks() -> None:
    """Return when every rank has called this; at once in a single process."""
    if has_peers():
        distributed.barrier()


def has_peers() -> bool:
    """Whether this process trains together with others."""
    return bool(distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1)
