"""Bytes of a model's own weights: in computing precision, packed while loading, or as its files have them."""

from dpo_tui.config.schema import Config
from dpo_tui.hardware.memory.activations import FP32, Workload
from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.hardware.models.matrices import Linear
from dpo_tui.hardware.models.quantised import Quantisation, quantisation_while_loading


def packed_while_loading(config: Config, arch: Architecture) -> Quantisation | None:
    """How bitsandbytes packs the 16-bit weights of the files while they are loaded; None where they stay as they are.

    Other methods in [model_init] are counted in 16 bit, and a note says so.
    """
    found = quantisation_while_loading(config) if arch.quantisation is None else None
    return found if found is not None and found.method == "bitsandbytes" else None


def is_packed(linear: Linear, quantisation: Quantisation) -> bool:
    """Whether bitsandbytes packs a matrix: an ``nn.Linear`` that the config does not leave out."""
    return linear.form == "linear" and linear.name not in quantisation.skips


def scales_size(config: Config, arch: Architecture) -> int:
    """Bytes of scales and code books of a model packed while it is loaded in 4 bit: no weights, and not divided."""
    loaded = packed_while_loading(config, arch)
    if loaded is None:
        return 0
    packed = [(linear, count) for linear, count in arch.matrices() if is_packed(linear, loaded)]
    return sum(
        count * (loaded.size(linear.rows, linear.columns) * linear.stack - -(-linear.weights // 2))
        for linear, count in packed
    )


def held_packed(arch: Architecture, work: Workload) -> bool:
    """Whether quantised weights of the files stay quantised in memory.

    MXFP4 has no backward pass and FP8 none without a GPU: transformers unpacks those.
    """
    found = arch.quantisation
    if found is None or not found.known or work.trains_all:
        return False
    return not found.unpacks or (found.method == "fp8" and work.width != FP32)


def weights_size(config: Config, arch: Architecture, work: Workload) -> int:
    """Bytes of the model.

    bitsandbytes packs the linear layers; experts that are one parameter, embeddings, LM head, norms and biases stay as
    they are.
    """
    if work.trains_all:
        return arch.parameters * FP32
    if held_packed(arch, work):
        return _quantised_size(arch, work)
    loaded = packed_while_loading(config, arch)
    if loaded is None:
        return arch.parameters * work.width
    packed = plain = 0
    for linear, count in arch.matrices():
        if is_packed(linear, loaded):
            packed += count * loaded.size(linear.rows, linear.columns) * linear.stack
        else:
            plain += count * linear.weights
    return packed + (plain + arch.embedding_weights + arch.small_weights) * work.width


def weights_label(config: Config, arch: Architecture, work: Workload) -> str:
    """Say how the weights are held."""
    precision = "fp32" if work.trains_all or work.width == FP32 else "16 bit"
    if held_packed(arch, work) and arch.quantisation is not None:
        return f"weights, quantised in the files ({arch.quantisation.title})"
    packed = packed_while_loading(config, arch)
    return f"weights, {f'{packed.short_title}, vocabulary and norms in ' if packed else 'in '}{precision}"


def _quantised_size(arch: Architecture, work: Workload) -> int:
    """Bytes of weights that files hold quantised: as long as the files say, else by the format."""
    if arch.stored is not None and arch.stored.packed_bytes:
        return arch.stored.packed_bytes + arch.stored.plain * work.width
    quantisation = arch.quantisation
    if quantisation is None:
        return 0
    packed = plain = 0
    for linear, count in arch.matrices(tower=False):
        if linear.form == "router" or (quantisation.experts and linear.form != "experts"):
            plain += count * linear.weights
        else:
            packed += count * linear.stack * quantisation.size(linear.rows, linear.columns)
    plain += sum(linear.weights for linear in arch.tower.linears)
    return packed + (plain + arch.embedding_weights + arch.small_weights) * work.width
