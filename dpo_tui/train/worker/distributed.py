"""Collectives of the worker over torch.distributed, beside those of training: joining, flags, objects, a barrier.

A collective must be called by every rank in the same order. In a single process each returns at once.
"""

from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from dpo_tui.errors import TrainingError
from dpo_tui.runs.line_log import seconds_from
from dpo_tui.runs.ranks import Rank
from dpo_tui.train.worker.stop_requests import Flags

_TIMEOUT_VARIABLE = "DPO_TUI_COLLECTIVE_SECONDS"
_TIMEOUT = 1800.0
"""Seconds that a rank waits in a collective. Rank 0 may answer prompts, or save, for minutes while the others wait."""

_groups: dict[str, Any] = {}


def join_ranks(rank: Rank, *, on_gpu: bool) -> None:
    """Create the process group of a run's ranks, and choose this rank's GPU.

    Before anything is decided together, and before the model is loaded onto a GPU. accelerate, which transformers'
    Trainer asks for the group, uses the one that it finds.

    Args:
        rank: this process.
        on_gpu: whether each rank computes on a GPU; else all compute on the CPU.

    Raises:
        TrainingError: torch sees fewer GPUs than there are ranks.
    """
    if rank.is_alone:
        return
    if on_gpu:
        seen = torch.cuda.device_count()
        if rank.local_rank >= seen:
            raise TrainingError(
                f"{rank.world_size} processes train together, and torch sees {seen} GPU{'s' if seen != 1 else ''}",
                hint="name GPUs that torch can use: `dpo-tui doctor`, [compute] gpus",
            )
        torch.cuda.set_device(rank.local_rank)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=collective_timeout())
    _cpu_group()


class AllReduceAny:
    """All-reduce of flags: a flag holds for all ranks if it holds for any (a `stop_requests.FlagReduction`).

    Before the process group exists, and in a single process, it returns the flags of this process.
    """

    def __call__(self, flags: Flags) -> Flags:
        """Return the logical or of the flags over all ranks."""
        if not has_peers():
            return flags
        # The maximum of 0 and 1 is the logical or; not every backend reduces booleans.
        combined = torch.tensor(flags, dtype=torch.uint8)
        distributed.all_reduce(combined, op=distributed.ReduceOp.MAX, group=_cpu_group())
        return tuple(bool(flag) for flag in combined.tolist())


def values_of_ranks(value: Any) -> list[Any]:
    """Return the values of all ranks, in the order of the ranks."""
    if not has_peers():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value, group=_cpu_group())
    return values


def broadcast_from_first(value: Any) -> Any:
    """Return rank 0's value on every rank; those of the others are not looked at."""
    if not has_peers():
        return value
    # Filled in place on the other ranks, whose own value is only of the right length.
    values = [value]
    distributed.broadcast_object_list(values, src=0, group=_cpu_group())
    return values[0]


def wait_for_ranks() -> None:
    """Return when every rank has called this; at once in a single process."""
    if has_peers():
        distributed.barrier()


def has_peers() -> bool:
    """Whether this process trains together with others."""
    return bool(distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1)


def collective_timeout() -> timedelta:
    """How long a rank waits in a collective before it fails."""
    return timedelta(seconds=seconds_from(_TIMEOUT_VARIABLE, _TIMEOUT))


def _cpu_group() -> Any:
    """The group of these collectives; created in the first of them, or in `join_ranks`."""
    # gloo, on the CPU, whatever training uses: with NCCL, reading a result would synchronise host and GPU after every
    # step, and the host could no longer queue kernels ahead.
    if "cpu" not in _groups:
        _groups["cpu"] = distributed.new_group(backend="gloo", timeout=collective_timeout())
    return _groups["cpu"]
