"""The weights in a model's safetensors files: how many there are and how they are packed, from the headers alone."""

import functools
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dpo_tui.hub.safetensors_header import BITS, DamagedFileError, StoredTensor, read_header
from dpo_tui.text.plain_documents import parse_json

_MOST_KEPT = 256
_INDEX = "model.safetensors.index.json"
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
"""Where the name of a weight has the number of its layer."""
_WHOLE_NUMBERS = {"I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4"}
# What describes quantised weights beside them: bitsandbytes, GPTQ and AWQ, FP8, compressed-tensors.
_OF_QUANTISATION = re.compile(
    r"\.(?:absmax|nested_absmax|quant_map|nested_quant_map|quant_state\.[^.]+|SCB|weight_format|scales|qzeros|g_idx|"
    r"qweight|weight_packed|weight_scale|weight_scale_inv|weight_shape|weight_zero_point|weight_g_idx|input_scale)$"
    r"|_(?:blocks|scales)$"
)
# In files, and no parameters in memory: tables and masks that are computed, and heads for multi-token prediction.
_NOT_LOADED = re.compile(
    r"rotary_emb\.inv_freq$|(?:^|\.)(?:attn|attention)\.(?:masked_)?bias$|e_score_correction_bias$"
    r"|layer_scalar$|act_fn\.(?:beta|eps)$|(?:^|\.)mtp\."
)
_COUNTED = ("position_ids", "num_batches_tracked", "token_type_ids")
_HEADS = ("lm_head.weight", "embed_out.weight", "output.weight")


@dataclass(frozen=True)
class StoredWeights:
    """What a model's files hold.

    Attributes:
        parameters: of the model in memory; None where packing hides how many there are.
        packed_bytes: of quantised weights and what describes them; 0 where weights are not quantised.
        plain: weights that are not quantised.
        tensors: names and shapes of the weights that are not quantised.
        has_head: whether the LM head lies beside the embedding.
    """

    parameters: int | None
    packed_bytes: int
    plain: int
    tensors: Mapping[str, tuple[int, ...]]
    has_head: bool

    def __hash__(self) -> int:
        """Hash by the numbers; tensors follow from the same files."""
        return hash((self.parameters, self.packed_bytes, self.plain))


def stored_weights(folder: Path, *, layers: int, tied: bool) -> StoredWeights | None:
    """Read the headers of a model's files.

    Args:
        folder: of the model.
        layers: decoder layers that the model has in memory; files may hold one more, for multi-token prediction.
        tied: whether a stored LM head is the embedding again.

    Returns:
        None where the files are missing, incomplete or damaged; a check before the start says which.
    """
    tensors = _tensors(folder)
    if not tensors:
        return None
    loaded = {name: one for name, one in tensors.items() if not _NOT_LOADED.search(name) and _in_layers(name, layers)}
    has_head = any(name.endswith(_HEADS) for name in loaded)
    packed = {name: one for name, one in loaded.items() if one.dtype in _WHOLE_NUMBERS or _OF_QUANTISATION.search(name)}
    plain = {
        name: one.shape for name, one in loaded.items() if name not in packed and not (tied and name.endswith(_HEADS))
    }
    count = sum(math.prod(shape) for shape in plain.values())
    size = sum(math.prod(one.shape) * BITS.get(one.dtype, 8) // 8 for one in packed.values())
    return StoredWeights(None if packed else count, size, count, plain, has_head)


def is_quantised(name: str, tensor: StoredTensor) -> bool:
    """Whether a tensor is a quantised weight or describes one, and no table or mask of whole numbers.

    A matrix in 8-bit floats without a scale is a plain weight: transformers makes wider numbers of it.
    """
    if _NOT_LOADED.search(name) or name.endswith(_COUNTED):
        return False
    whole = tensor.dtype in _WHOLE_NUMBERS and not tensor.dtype.startswith("F8_E") and len(tensor.shape) > 0
    return whole or bool(_OF_QUANTISATION.search(name))


def stored_layers(tensors: Mapping[str, tuple[int, ...]]) -> dict[int, dict[str, tuple[int, ...]]]:
    """Return the tensors of each decoder layer by their names in it; towers have layers too and are left out."""
    found: dict[int, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for name, shape in tensors.items():
        match = LAYER.search(name)
        if match and not is_of_tower(name):
            found[int(match[1])][name[match.end() :]] = shape
    return dict(found)


def is_of_tower(name: str) -> bool:
    """Whether a weight belongs to a part that sees or hears."""
    return any(part in name for part in ("vision", "visual", "audio", "multi_modal_projector", "embed_image"))


def _in_layers(name: str, layers: int) -> bool:
    match = LAYER.search(name)
    return match is None or is_of_tower(name) or int(match[1]) < layers


def _tensors(folder: Path) -> dict[str, StoredTensor]:
    found: dict[str, StoredTensor] = {}
    try:
        for file in _files(folder):
            status = (folder / file).stat()
            found |= _header(folder / file, status.st_size, status.st_mtime_ns)
    except (OSError, ValueError, DamagedFileError):
        return {}
    return found


@functools.lru_cache(maxsize=_MOST_KEPT)
def _header(file: Path, size: int, changed: int) -> Mapping[str, StoredTensor]:
    """Read a file's header once as long as the file stays as it is: forecasts ask again with every setting."""
    return read_header(file)


def _files(folder: Path) -> Iterable[str]:
    if (folder / "model.safetensors").is_file():
        return ["model.safetensors"]
    if not (folder / _INDEX).is_file():
        return []
    index = parse_json((folder / _INDEX).read_bytes())
    named = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(named, dict) or not all(isinstance(file, str) for file in named.values()):
        raise DamagedFileError("names no files of weights")
    return sorted({file for file in named.values() if file == Path(file).name})
