"""Weights that a model's files hold quantised: how many bytes they take, by ``quantization_config``.

Formats: bitsandbytes (blocks of 64 weights share a scale), GPTQ and AWQ (groups share a 16-bit scale and a packed
zero), FP8 (one byte, a scale for each block or row), MXFP4 (blocks of 32 share a byte), compressed-tensors (a scale for
each group or row).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpo_tui.config.schema import Config

_BLOCK = 64
_NESTED = 256
_FP32 = 4
_SCALE = 2


@dataclass(frozen=True)
class Quantisation:
    """How weights are stored.

    Attributes:
        method: by transformers' name.
        bits: of a weight.
        group: weights that share a scale; 0 where each row of a matrix has one.
        scale_bytes: of a scale.
        nested: scales are quantised themselves (bitsandbytes' double quantisation).
        zeros: groups have a zero point too.
        experts: whether only experts are quantised (MXFP4 of gpt-oss).
        unpacks: whether transformers may hold the weights in 16 bit all the same, without kernels for them.
        known: whether the method is known here.
        skips: last parts of the names of modules that stay in 16 bit; only where it is asked for while loading.
        kind: of bitsandbytes' 4-bit numbers, "nf4" or "fp4".
    """

    method: str
    bits: int = 16
    group: int = 0
    scale_bytes: int = _SCALE
    nested: bool = False
    zeros: bool = False
    experts: bool = False
    unpacks: bool = False
    known: bool = True
    skips: frozenset[str] = frozenset()
    kind: str = ""

    @property
    def loaded_in_4bit(self) -> bool:
        """Whether bitsandbytes holds the weights in 4 bits, as with ``use_4bit``."""
        return self.method == "bitsandbytes" and self.bits == 4  # noqa: PLR2004

    @property
    def title(self) -> str:
        """The method and its bits, for the user."""
        return f"{self.method or 'an unnamed method'}, {self.bits} bits"

    @property
    def short_title(self) -> str:
        """What bitsandbytes calls its numbers; of others the method and its bits."""
        if self.method != "bitsandbytes":
            return self.title
        return self.kind.upper() if self.loaded_in_4bit else "int8"

    def size(self, rows: int, columns: int) -> int:
        """Bytes of one matrix.

        Args:
            rows: its outputs.
            columns: its inputs.
        """
        weights = rows * columns
        packed = -(-weights * self.bits // 8)
        groups = rows * -(-columns // self.group) if self.group else rows
        if self.method == "bitsandbytes" and self.bits == 4:  # noqa: PLR2004
            groups = -(-weights // _BLOCK)
            scales = groups + _FP32 * -(-groups // _NESTED) if self.nested else groups * _FP32
            return packed + scales + _FP32 * (1 + 16 + (256 if self.nested else 0))
        if self.method == "fp8" and self.group:
            groups = -(-rows // self.group) * -(-columns // self.group)
        zeros = -(-groups * self.bits // 8) if self.zeros else 0
        order = _FP32 * columns if self.method == "gptq" else 0
        return packed + groups * self.scale_bytes + zeros + order


def quantisation_in(*configs: Mapping[str, Any]) -> Quantisation | None:
    """Read ``quantization_config`` of the first config that has one; None where weights are not quantised."""
    for config in configs:
        found = config.get("quantization_config")
        if isinstance(found, Mapping) and found:
            return _read(found)
    return None


def quantisation_while_loading(config: Config) -> Quantisation | None:
    """What a config asks to quantise 16-bit weights to while they are loaded: ``use_4bit``, or a table in [model_init].

    None where the weights stay as they are. Files that hold quantised weights are another matter: those are used.
    """
    if config.use_4bit:
        return Quantisation("bitsandbytes", 4, nested=True, kind="nf4")
    return quantisation_in(config.model_init)


def _read(found: Mapping[str, Any]) -> Quantisation:
    # The keys of transformers' BitsAndBytesConfig, whose default of 4-bit numbers is FP4.
    skipped = found.get("llm_int8_skip_modules")
    skips = frozenset(str(name).rpartition(".")[2] for name in skipped) if isinstance(skipped, list) else frozenset()
    if found.get("load_in_4bit"):
        kind = str(found.get("bnb_4bit_quant_type", "fp4"))
        return Quantisation(
            "bitsandbytes", 4, nested=bool(found.get("bnb_4bit_use_double_quant")), skips=skips, kind=kind
        )
    if found.get("load_in_8bit"):
        return Quantisation("bitsandbytes", 8, scale_bytes=_FP32, skips=skips)
    method = str(found.get("quant_method", "")).lower()
    if method in ("gptq", "awq", "auto-round"):
        bits, group = _positive(found, "bits", "w_bit", default=4), _positive(found, "group_size", "q_group_size")
        return Quantisation(method, bits, group, zeros=True)
    if method in ("fp8", "fbgemm_fp8"):
        block = found.get("weight_block_size")
        group = block[0] if isinstance(block, list) and block and isinstance(block[0], int) else 0
        return Quantisation(method, 8, group, _FP32, unpacks=method == "fp8")
    if method == "mxfp4":
        return Quantisation(method, 4, 32, 1, experts=True, unpacks=True)
    if method in ("hqq", "quanto", "eetq", "aqlm", "torchao"):
        bits = {"int8": 8, "float8": 8, "int4": 4, "int2": 2}.get(str(found.get("weights")), 0)
        return Quantisation(method, bits or _positive(found, "nbits", "bits", default=8), 64, known=False)
    if method == "compressed-tensors":
        return _compressed(found)
    return Quantisation(method, known=False)


def _compressed(found: Mapping[str, Any]) -> Quantisation:
    groups = found.get("config_groups")
    first: Any = next(iter(groups.values()), None) if isinstance(groups, Mapping) else None
    weights = first.get("weights") if isinstance(first, Mapping) else None
    if not isinstance(weights, Mapping):
        return Quantisation("compressed-tensors", known=False)
    return Quantisation(
        "compressed-tensors", _positive(weights, "num_bits", default=8), _positive(weights, "group_size")
    )


def _positive(values: Mapping[str, Any], *names: str, default: int = 0) -> int:
    value = next((values[name] for name in names if values.get(name) is not None), default)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default
