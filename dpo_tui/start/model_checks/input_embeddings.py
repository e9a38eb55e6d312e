"""The input embeddings in a model's files, by the names that the families give them."""

from dpo_tui.hardware.models.stored_weights import is_of_tower
from dpo_tui.start.model_checks.model_folder import ModelFolder

_MATRIX = 2
_NAMES = (
    "embed_tokens.weight",
    "wte.weight",
    "word_embeddings.weight",
    "embed_in.weight",
    "tok_embeddings.weight",
    "embeddings.weight",
)


def input_embeddings(folder: ModelFolder) -> list[tuple[int, ...]]:
    """Return the shapes of the matrices that make vectors of token ids; none without safetensors."""
    if not folder.weight_files:
        return []
    return [
        tensor.shape
        for name, tensor in folder.tensors.items()
        if len(tensor.shape) == _MATRIX
        and any(name == end or name.endswith(f".{end}") for end in _NAMES)
        and not is_of_tower(name)
    ]
