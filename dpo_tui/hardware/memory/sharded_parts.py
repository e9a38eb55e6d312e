"""What FSDP2 divides among the processes of a run, in bytes of one of them, and what is whole at times.

Divided are weights, adapter, gradients and optimizer state, for good; activations are not: each process has those of
its own rows. Computed from how torch's ``fully_shard`` works as accelerate 1.15 applies it (``fsdp2_prepare_model``), a
group a layer; nothing here was measured on GPUs.
"""

from dpo_tui.config.schema import Config
from dpo_tui.hardware.memory.activations import Workload
from dpo_tui.hardware.memory.weights import scales_size, weights_size
from dpo_tui.hardware.models.architecture import Architecture

_LAYERS_WHOLE = 2
"""One layer is computed while the next one is gathered."""


def held_by_one(config: Config, size: int, *, on_gpu: bool) -> int:
    """Bytes that one process holds, on its device, of something that FSDP2 divides; all where it divides nothing.

    Args:
        config: the run's settings.
        size: bytes of the whole.
        on_gpu: whether the device is a GPU, where ``cpu_offload`` keeps nothing.
    """
    if not config.is_sharded:
        return size
    return 0 if config.cpu_offload and on_gpu else -(-size // config.world_size)


def weights_held_by_one(config: Config, arch: Architecture, work: Workload, *, on_gpu: bool) -> int:
    """Bytes of the weights that one process holds; the scales of packed ones are whole on each."""
    scales = scales_size(config, arch) if work.packed and config.use_4bit else 0
    return held_by_one(config, weights_size(config, arch, work) - scales, on_gpu=on_gpu) + scales


def loaded_whole(config: Config, arch: Architecture, work: Workload) -> int:
    """Bytes of whole weights on a device beyond those that count in every phase.

    NF4 weights are loaded whole, since transformers packs them there, and so are those that score the reference once.
    """
    later = weights_held_by_one(config, arch, work, on_gpu=True) + unsharded_size(config, arch, work)
    return max(0, weights_size(config, arch, work) - later)


def unsharded_size(config: Config, arch: Architecture, work: Workload) -> int:
    """Bytes of what is whole at the peak: two layers and the vocabulary, and where they are trained their gradients."""
    if not config.is_sharded:
        return 0
    vocabulary = arch.embedding_weights
    if work.packed:
        packed = weights_size(config, arch, work) - vocabulary * work.width
        return _LAYERS_WHOLE * packed // max(1, arch.layers) + vocabulary * work.width
    layers = _LAYERS_WHOLE * (arch.parameters - vocabulary) // max(1, arch.layers)
    return (layers + vocabulary) * work.width * (2 if work.trains_all else 1)
