"""The GPU of a batch job, described by the config: a login node has none, or another one, to read."""

from dataclasses import replace
from typing import TYPE_CHECKING

from dpo_tui.config.schema import Config

if TYPE_CHECKING:
    from dpo_tui.hardware.nvml import Inventory

# Type in gres, in lower case -> memory in GB and compute capability. Only types that exist in one size: an A100 has 40
# or 80 GB, a V100 16 or 32. Sources: NVIDIA's data sheets, and developer.nvidia.com/cuda-gpus.
_TYPES: dict[str, tuple[float, tuple[int, int]]] = {
    "a10": (24, (8, 6)),
    "a100_80gb": (80, (8, 0)),
    "a30": (24, (8, 0)),
    "a40": (48, (8, 6)),
    "a6000": (48, (8, 6)),
    "h100": (80, (9, 0)),
    "h200": (141, (9, 0)),
    "l4": (24, (8, 9)),
    "l40": (48, (8, 9)),
    "l40s": (48, (8, 9)),
    "p100": (16, (6, 0)),
    "rtx_4090": (24, (8, 9)),
    "rtx4090": (24, (8, 9)),
    "rtx_a6000": (48, (8, 6)),
    "t4": (16, (7, 5)),
}
_CAPABILITIES: dict[str, tuple[int, int]] = {"a100": (8, 0), "v100": (7, 0)}


def job_inventory(config: Config) -> "Inventory":
    """The GPUs that a run's job will see.

    Args:
        config: with ``launcher = "slurm"``.

    Returns:
        As many GPUs as ``gres`` asks for, or one, of unknown memory where neither ``gpu_memory`` nor the type in
        ``gres`` says it; none for ``gpus = "none"``.
    """
    # Here, since the check of a launcher, which every start and `config check` makes, reads ``gres`` alone.
    from dpo_tui.hardware.memory.memory_estimate import GB
    from dpo_tui.hardware.nvml import Gpu, Inventory, NvmlFault

    if config.gpus == "none":
        return Inventory()
    kind = gpu_type(config)
    size, capability = _TYPES.get(kind.lower(), (None, _CAPABILITIES.get(kind.lower())))
    size = config.gpu_memory or size
    name = f"the job's {kind}" if kind else "the job's GPU"
    memory = None if size is None else int(size * GB)
    faults = {} if size is not None else {"memory": NvmlFault("other", "set gpu_memory in [slurm]")}
    gpu = Gpu(0, name, memory_total=memory, memory_free=memory, compute_capability=capability, faults=faults)
    return Inventory(tuple(replace(gpu, index=index) for index in range(max(1, gres_gpus(config)))))


def gpu_type(config: Config) -> str:
    """The type of GPU in ``gres``, such as ``a100``; empty where it names none."""
    for one in (config.gres or "").split(","):
        name, *rest = one.split(":")
        if name == "gpu" and rest and not rest[0].isdigit():
            return rest[0]
    return ""


def gres_gpus(config: Config) -> int:
    """How many GPUs ``gres`` asks for; 0 where it asks for none."""
    count = 0
    for one in (config.gres or "").split(","):
        name, *rest = one.split(":")
        if name == "gpu":
            count += int(rest[-1]) if rest and rest[-1].isdigit() else 1
    return count
