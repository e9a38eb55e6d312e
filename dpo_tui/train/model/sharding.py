"""FSDP2: a model's weights, gradients and optimizer state divided among the processes (torch's ``fully_shard``).

Accelerate shards the model when the training begins; until then each process has it whole. A sharded tensor is a
DTensor, of which each process holds a part; making it whole is a collective, which all processes must call in the same
order.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor

from dpo_tui.config.schema import Config
from dpo_tui.train.model.device import TrainingDevice

_ROOM = 1.25
"""Memory that a model held whole needs for forward passes, as a multiple of its weights."""


def fsdp_arguments(config: Config) -> dict[str, Any]:
    """Return the arguments of transformers' Trainer that make accelerate shard the model; none without FSDP2."""
    if not config.is_sharded:
        return {}
    return {
        "fsdp": True,
        "fsdp_config": {"version": 2, "reshard_after_forward": True, "cpu_offload": config.cpu_offload},
        # Else the gradients of all but the last micro-batch of a step stay whole, on every process: as much memory as
        # sharding has saved.
        "accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": True}},
    }


@contextmanager
def sharding_accelerator(config: Config, *, on_gpu: bool) -> Iterator[None]:
    """Context for constructing a trainer that shards on the CPU too, where accelerate 1.15 ignores its plugin."""
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    if on_gpu or not config.is_sharded:
        yield
        return
    original = AcceleratorState.__init__

    def sharding(state: Any, *arguments: Any, **options: Any) -> None:
        original(state, *arguments, **options)
        if plugin := options.get("fsdp_plugin"):
            state.fsdp_plugin = plugin
            state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = sharding
    try:
        yield
    finally:
        AcceleratorState.__init__ = original


def with_dtypes_of_one_process(arguments: Any, config: Config, device: TrainingDevice) -> Any:
    """Make a trainer's arguments compute in the dtypes that one process computes in; return them.

    Left alone, accelerate casts what each divided module returns to bf16 under bf16: the log-probability of an answer
    of 100 nats would be rounded to a half. And it would sum gradients in bf16.
    """
    if config.is_sharded:
        # An adapter's few weights autocast casts as ever. Of a whole model its cache of casts would hold every layer
        # until the end of the forward pass, as much as is divided; so weights are gathered as bf16.
        whole = not config.use_lora and device.precision != "fp32"
        arguments.fsdp_plugin_args["mixed_precision_policy"] = MixedPrecisionPolicy(
            param_dtype=device.dtype if whole else None, reduce_dtype=torch.float32 if whole else None
        )
        if config.cpu_offload:
            # Pages are pinned for copies to a GPU; without one torch has nothing to pin them with.
            arguments.fsdp_plugin_args["cpu_offload"] = CPUOffloadPolicy(pin_memory=device.kind == "cuda")
    return arguments


def is_sharded(model: Any) -> bool:
    """Whether a model's weights are divided among the processes by now."""
    return isinstance(model, FSDPModule)


def fits_whole(model: Any, device: torch.device) -> bool:
    """Whether this process can hold a model whole on its device for forward passes."""
    if device.type != "cuda":
        return True
    needed = sum(weight.numel() * weight.element_size() for weight in model.parameters()) * _ROOM
    return bool(needed < torch.cuda.mem_get_info(device)[0])


def full_tensors(tensors: Mapping[Any, Any], *, keep: bool) -> dict[Any, Any]:
    """Return tensors whole and in main memory; a collective.

    Args:
        tensors: by name, in the same order on every rank; what is no tensor is returned as it is.
        keep: whether this rank wants them. The others take part, and hold no more than one whole tensor at a time.
    """
    found = {}
    for name, tensor in tensors.items():
        whole = _whole(tensor)
        if keep:
            found[name] = whole.detach().cpu() if isinstance(whole, torch.Tensor) else whole
    return found


def _whole(tensor: Any) -> Any:
    if not isinstance(tensor, DTensor):
        return tensor
    kind = tensor.device_mesh.device_type
    # NCCL gathers nothing from main memory, where cpu_offload keeps the parts.
    return (tensor if tensor.device.type == kind else tensor.to(kind)).full_tensor()


def divided_like(whole: torch.Tensor, example: Any) -> Any:
    """Return a whole tensor, which every rank has, divided as another is; as it is where the other is not divided."""
    if not isinstance(example, DTensor):
        return whole
    mesh = example.device_mesh
    # No rank sends anything: each takes its part of what it has itself.
    parts = distribute_tensor(whole.to(mesh.device_type), mesh, example.placements, src_data_rank=None)
    return parts.to(example.device)


@torch.no_grad()  # type: ignore[untyped-decorator]
def copy_whole(target: Any, whole: torch.Tensor) -> None:
    """Overwrite a tensor, divided or not, with a whole one."""
    target.copy_(divided_like(whole.to(target.dtype), target))
