"""Check that ``quantization_config`` and the files agree on whether weights are quantised, and by which method."""

from dataclasses import dataclass

from dpo_tui.hardware.models.stored_weights import is_quantised
from dpo_tui.start.model_checks.model_folder import ModelFolder
from dpo_tui.start.model_checks.quantised_weights import method_of, quantisation_of
from dpo_tui.start.model_checks.worker_packages import WorkerPackages

_DENSE = "dense"
"""Format of compressed-tensors in which weights are stored as plain numbers."""


@dataclass(frozen=True)
class Packing:
    """A way in which files hold quantised weights.

    Attributes:
        mark: what the name of one of its tensors ends with or has in it.
        title: for the user.
        methods: values of ``quant_method`` that read it.
    """

    mark: str
    title: str
    methods: tuple[str, ...]


_4_BIT = Packing(".quant_state.bitsandbytes__", "bitsandbytes in 4 bits", ("bitsandbytes",))
_8_BIT = Packing(".SCB", "bitsandbytes in 8 bits", ("bitsandbytes",))
_PACKINGS = (
    _4_BIT,
    _8_BIT,
    Packing(".qweight", "GPTQ or AWQ", ("gptq", "awq", "auto-round")),
    Packing(".weight_packed", "compressed-tensors", ("compressed-tensors",)),
    Packing("_proj_blocks", "MXFP4", ("mxfp4",)),
)
_READERS = {method for packing in _PACKINGS for method in packing.methods} | {"fp8", "fbgemm_fp8", "hqq", "quanto"}
_UNPACKED_WITHOUT_GPU = {"fp8", "mxfp4"}
"""Methods that transformers does without where there is no GPU (MXFP4: nor kernels); plain weights are right then."""


def check_quantised_files(folder: ModelFolder, packages: WorkerPackages, *, has_gpu: bool) -> list[str]:
    """Compare what ``config.json`` says about quantised weights with the files.

    Raises:
        ConfigError: the files hold quantised weights and it says nothing, the other way round, or another method.
    """
    if not folder.weight_files:
        return []
    stored = _quantised_names(folder)
    packing = next((one for one in _PACKINGS if any(one.mark in name for name in stored)), None)
    by = f" ({packing.title})" if packing else ""
    quantisation = quantisation_of(folder)
    if quantisation is None:
        if not stored:
            return []
        raise folder.error(
            f"its files hold quantised weights{by}, such as {stored[0]}, and config.json has no quantization_config: "
            "they would be read as numbers that they are not",
            "take the config.json that belongs to these weights, or name the model as it was before it was quantised",
        )
    method = method_of(quantisation)
    what = f"config.json has a quantization_config ({method or 'of an unnamed method'})"
    if not stored:
        if quantisation.get("format") == _DENSE:
            return []
        reads_plain = method == "mxfp4" and not packages.has("kernels")
        if method in _UNPACKED_WITHOUT_GPU and (reads_plain or not has_gpu):
            return [f"{what}, and no weight in the files is quantised: without a GPU for it they are used as they are"]
        raise folder.error(
            f"{what}, and no weight in its files is quantised",
            "remove quantization_config from a copy of the model's config.json; use_4bit = true quantises the weights "
            "while they are loaded",
        )
    bits = {_4_BIT: "load_in_4bit", _8_BIT: "load_in_8bit"}.get(packing) if packing else None
    other_bits = bits is not None and not quantisation.get(bits)
    if packing and method in _READERS and (method not in packing.methods or other_bits):
        raise folder.error(
            f"{what}, and its files hold weights of another method{by}, such as {stored[0]}",
            "take the config.json that belongs to these weights",
        )
    return []


def holds_quantised(folder: ModelFolder) -> bool:
    """Whether any weight in the files is quantised."""
    return bool(_quantised_names(folder))


def _quantised_names(folder: ModelFolder) -> list[str]:
    """Return the tensors that are quantised weights or describe some; those that no other name tells come last."""
    found = [name for name, tensor in folder.tensors.items() if is_quantised(name, tensor)]
    return sorted(found, key=lambda name: (not any(one.mark in name for one in _PACKINGS), name))
