"""Check of models whose weights are stored quantised: what the method needs, and whether an adapter trains on it.

The rows follow the quantizers of transformers 5.23 (``transformers/quantizers``): the packages that
``validate_environment`` asks for, and ``is_trainable``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpo_tui.config.schema import Config
from dpo_tui.start.model_checks.model_folder import ModelFolder
from dpo_tui.start.model_checks.worker_packages import WorkerPackages


@dataclass(frozen=True)
class QuantisationMethod:
    """What a way to quantise asks for.

    Attributes:
        modules: that must be importable.
        install: what to give to pip.
        trains: whether an adapter can be trained on such weights.
        needs_gpu: whether it cannot be loaded without a GPU.
    """

    modules: tuple[str, ...] = ()
    install: str = ""
    trains: bool = True
    needs_gpu: bool = False


_METHODS: dict[str, QuantisationMethod] = {
    "bitsandbytes": QuantisationMethod(("bitsandbytes",), "bitsandbytes"),
    "gptq": QuantisationMethod(("optimum", "gptqmodel"), "optimum gptqmodel", needs_gpu=True),
    "awq": QuantisationMethod(("gptqmodel",), "gptqmodel", needs_gpu=True),
    "fp8": QuantisationMethod(),  # without a GPU for it transformers dequantises
    "mxfp4": QuantisationMethod(),  # dequantised where its kernels are missing
    "compressed-tensors": QuantisationMethod(("compressed_tensors",), "compressed-tensors"),
    "hqq": QuantisationMethod(("hqq",), "hqq"),
    "quanto": QuantisationMethod(("optimum", "optimum.quanto"), "optimum-quanto"),
    "torchao": QuantisationMethod(("torchao",), "torchao"),
    "eetq": QuantisationMethod(("kernels",), "kernels", needs_gpu=True),
    "aqlm": QuantisationMethod(("aqlm",), "'aqlm[gpu]'"),
    "auto-round": QuantisationMethod(("auto_round",), "auto-round", trains=False),
    "quark": QuantisationMethod(("quark",), "amd-quark", trains=False),
    "fbgemm_fp8": QuantisationMethod(("fbgemm_gpu",), "fbgemm-gpu", trains=False, needs_gpu=True),
    "higgs": QuantisationMethod(("flute",), "flute-kernel", trains=False, needs_gpu=True),
    "spqr": QuantisationMethod(("spqr_quant",), "'spqr_quant[gpu]'", trains=False, needs_gpu=True),
    "vptq": QuantisationMethod(("vptq",), "vptq", trains=False, needs_gpu=True),
    "nvfp4": QuantisationMethod(("kernels",), "kernels", trains=False, needs_gpu=True),
}
_UNQUANTISED = "name the model as it was before it was quantised, with use_4bit = true where memory is short"


def quantisation_of(folder: ModelFolder) -> Mapping[str, Any] | None:
    """Return the ``quantization_config`` of a model; None where its weights are not quantised."""
    for config in (folder.config, folder.text_config):
        found = config.get("quantization_config")
        if isinstance(found, dict) and found:
            return found
    return None


def is_4_bit(quantisation: Mapping[str, Any]) -> bool:
    """Whether weights are stored in 4 bits by bitsandbytes, which can be dequantised and merged."""
    return method_of(quantisation) == "bitsandbytes" and bool(quantisation.get("load_in_4bit"))


def method_of(quantisation: Mapping[str, Any]) -> str:
    """Return the name of the method by which weights were quantised."""
    if quantisation.get("load_in_4bit") or quantisation.get("load_in_8bit"):
        return "bitsandbytes"
    return str(quantisation.get("quant_method", "")).lower()


def check_quantisation(folder: ModelFolder, config: Config, packages: WorkerPackages, *, has_gpu: bool) -> list[str]:
    """Check that a run can load and train quantised weights.

    Raises:
        ConfigError: a package is missing, the method cannot train, needs a GPU, or the run trains the weights
            themselves or quantises them again.
    """
    quantisation = quantisation_of(folder)
    if quantisation is None:
        return []
    name = method_of(quantisation)
    what = f"its weights are quantised ({name or 'by a method that is not named'})"
    if not config.use_lora:
        raise folder.error(
            f"{what}, and use_lora = false trains the weights themselves", f"set use_lora = true, or {_UNQUANTISED}"
        )
    if config.use_4bit and name != "bitsandbytes":
        raise folder.error(
            f"{what}, and use_4bit = true would quantise them again", f"set use_4bit = false, or {_UNQUANTISED}"
        )
    method = _METHODS.get(name)
    if method is None:
        return [f"The model's weights are quantised by {name or 'an unnamed method'}, not known here: this may fail"]
    if not method.trains:
        raise folder.error(f"{what}, and transformers trains no adapter on those", _UNQUANTISED)
    missing = [module for module in method.modules if not packages.has(module)]
    if missing:
        raise folder.error(
            f"{what}, which needs {' and '.join(missing)}, not installed where the run trains",
            f"{packages.python} -m pip install {method.install}; or {_UNQUANTISED}",
        )
    if method.needs_gpu and not has_gpu:
        raise folder.error(f"{what}, which needs a GPU, and this run has none", _UNQUANTISED)
    if config.is_sharded and quantisation.get("bnb_4bit_quant_storage", "uint8") in ("uint8", "int8", None):
        raise folder.error(f'{what}, and distributed = "fsdp2" leaves those whole on every process', _UNQUANTISED)
    if config.use_4bit:
        return ["use_4bit has no effect: the model's files hold quantised weights already, and those are used"]
    return []
