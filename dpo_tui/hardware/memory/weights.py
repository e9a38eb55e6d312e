"""Bytes of a model's own weights: in computing precision, packed while loading, or as its files have them."""

from dpo_tui.config.schema import Config
from dpo_tui.hardware.memory.activations import FP32, Workload
from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.hardware.models.matrices import Linear

# bitsandbytes/functional.py quantize_4bit: blocks of 64 weights share a scale; with double quantisation the scales are
# bytes, and blocks of 256 of them share an fp32 scale; per matrix an fp32 offset and two code books (16 and 256 fp32).
NF4_BLOCK = 64
NF4_NESTED_BLOCK = 256
NF4_FIXED = FP32 * (1 + 16 + 256)


def nf4_size(linear: Linear) -> int:
    """Bytes of one NF4 matrix with double quantisation."""
    scales = -(-linear.weights // NF4_BLOCK)
    return -(-linear.weights // 2) + scales + FP32 * -(-scales // NF4_NESTED_BLOCK) + NF4_FIXED


def nf4_scales(arch: Architecture) -> int:
    """Bytes of scales and code books of a model packed while it is loaded: they are no weights, and not divided."""
    return sum(
        count * (nf4_size(linear) - -(-linear.weights // 2))
        for linear, count in arch.matrices()
        if linear.form == "linear"
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

    NF4 packs the linear layers; experts that are one parameter, embeddings, LM head, norms and biases stay as they are.
    """
    if work.trains_all:
        return arch.parameters * FP32
    if held_packed(arch, work):
        return _quantised_size(arch, work)
    if not config.use_4bit or arch.quantisation is not None:
        return arch.parameters * work.width
    packed = sum(count * nf4_size(linear) for linear, count in arch.matrices() if linear.form == "linear")
    plain = sum(count * linear.weights for linear, count in arch.matrices() if linear.form != "linear")
    return packed + (plain + arch.embedding_weights + arch.small_weights) * work.width


def weights_label(config: Config, arch: Architecture, work: Workload) -> str:
    """Say how the weights are held."""
    precision = "fp32" if work.trains_all or work.width == FP32 else "16 bit"
    if held_packed(arch, work) and arch.quantisation is not None:
        return f"weights, quantised in the files ({arch.quantisation.title})"
    packed = config.use_4bit and arch.quantisation is None
    return f"weights, {'NF4, vocabulary and norms in ' if packed else 'in '}{precision}"


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
