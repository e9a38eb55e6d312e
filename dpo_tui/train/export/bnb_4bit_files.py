"""Weights that a model's files hold in 4 bits, as bitsandbytes saves them: read back dequantised.

Beside a packed ``NAME.weight`` lie ``NAME.weight.absmax``, ``.quant_map``, their nested counterparts under double
quantisation, and ``.quant_state.bitsandbytes__nf4``, which holds shape, dtype and block size.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open

from dpo_tui.runs.atomic_files import read_json

_STATE = ".quant_state.bitsandbytes__"


def is_stored_in_4_bits(base: Path) -> bool:
    """Whether a model's config says that its files hold 4-bit weights of bitsandbytes."""
    quantisation = (read_json(base / "config.json") or {}).get("quantization_config")
    return isinstance(quantisation, dict) and bool(quantisation.get("load_in_4bit"))


class Bnb4BitFiles:
    """The 4-bit weights in the files of a model; there are none in most models.

    Args:
        base: folder of the model.
        shards: names of the tensors in each of its files, by the file's name.
    """

    def __init__(self, base: Path, shards: Mapping[str, Sequence[str]]) -> None:
        self._base = base
        self._file = {name: shard for shard, names in shards.items() for name in names}
        packed = [name.partition(_STATE)[0] for name in self._file if _STATE in name]
        # A weight and its parts may lie in different files.
        self._parts = {weight: [name for name in self._file if name.startswith(f"{weight}.")] for weight in packed}
        self._all_parts = frozenset(part for parts in self._parts.values() for part in parts)

    def __bool__(self) -> bool:
        """Whether any weight is stored in 4 bits."""
        return bool(self._parts)

    def is_part(self, name: str) -> bool:
        """Whether a stored tensor is no weight, but a part of how one is quantised."""
        return name in self._all_parts

    def dequantise(self, name: str, stored: torch.Tensor) -> torch.Tensor:
        """Return a weight as the model computes with it: dequantised, in the dtype that it was quantised from.

        Args:
            name: of the weight in the files.
            stored: the tensor in the file, returned as it is where it is not quantised.
        """
        if name not in self._parts:
            return stored
        # Slow to import, and needed only for bases that are stored in 4 bits.
        from bitsandbytes.functional import QuantState, dequantize_4bit

        parts = {}
        for part in self._parts[name]:
            with safe_open(self._base / self._file[part], framework="pt") as file:
                parts[part.removeprefix(f"{name}.")] = file.get_tensor(part)
        state = QuantState.from_dict(parts, device=torch.device("cpu"))
        weight: torch.Tensor = dequantize_4bit(stored, state)
        return weight
