"""Check of the weights: transformers finds them, each file is there and whole, and holds what the index says."""

import zipfile
from pathlib import Path

from dpo_tui.hub.safetensors_header import DamagedFileError, require_content
from dpo_tui.start.model_checks.model_folder import INDEX, ModelFolder

_PICKLE = "pytorch_model.bin"
_PICKLE_INDEX = "pytorch_model.bin.index.json"
_START = 64
_OTHER_FORMATS = {
    "*.gguf": "GGUF, which llama.cpp and Ollama read",
    "consolidated*": "the format of the model's makers (consolidated)",
    "*.pth": "the format of the model's makers (.pth)",
    "tf_model.h5": "TensorFlow's format",
    "flax_model*": "Flax's format",
    "*.onnx": "ONNX",
}
_NO_PARAMETERS = ("inv_freq", "masked_bias", "attn.bias", "position_ids")
"""Ends of names that old files and their indices have, and that no model loads."""


def check_weights(folder: ModelFolder) -> list[str]:
    """Check the files of the weights.

    Returns:
        What is unusual, in sentences.

    Raises:
        ConfigError: there are none, or one of them is missing, cut, damaged, or a pointer of Git LFS.
    """
    if folder.headers:
        _check_index(folder)
        return []
    pickles = _pickles(folder)
    if not pickles:
        raise _no_weights(folder)
    for file in pickles:
        _check_pickle(folder, file)
    return [
        f"The weights are pickles ({pickles[0]}): only their tensors are read; a merge needs safetensors, which "
        "save_pretrained of transformers writes"
    ]


def _check_index(folder: ModelFolder) -> None:
    """Check that each file holds the weights that the index says it holds."""
    if not folder.index_file:
        return
    for name, file in folder.weight_map(folder.index_file).items():
        if name not in folder.headers.get(file, {name}) and not name.endswith(_NO_PARAMETERS):
            raise folder.error(
                f"{file} does not hold {name}, which the index says is in it: it is a file of another model or part",
                folder.download_again(file),
            )


def _pickles(folder: ModelFolder) -> list[str]:
    if (folder.path / _PICKLE).is_file():
        return [_PICKLE]
    return sorted(set(folder.weight_map(_PICKLE_INDEX).values()))


def _check_pickle(folder: ModelFolder, file: str) -> None:
    path = folder.path / file
    if not path.is_file():
        raise folder.error(f"{file} is missing, which {_PICKLE_INDEX} names", folder.download_again(file))
    try:
        with path.open("rb") as stream:
            start = stream.read(_START)
        require_content(start, path.stat().st_size)
        # Since torch 1.6 it is a zip archive, whose directory is at its end.
        if start.startswith(b"PK") and not zipfile.is_zipfile(path):
            raise DamagedFileError("is cut: the end of the archive is missing")
    except (OSError, DamagedFileError) as error:
        raise folder.damaged(file, error) from None


def _no_weights(folder: ModelFolder) -> Exception:
    """Return the error of a folder without weights that transformers loads, by what lies there instead."""
    for file in ("model.safetensors", _PICKLE):
        if (folder.path / file).is_symlink():
            return folder.error(f"{file} is a link to a file that does not exist", folder.download_again(file))
    loadable = "model.safetensors, or its parts with their index"
    for pattern, format_name in _OTHER_FORMATS.items():
        found = next(iter(sorted(folder.path.glob(pattern))), None)
        if found is not None:
            return folder.error(
                f"the weights are in {format_name} only ({found.name})", f"name a folder that has {loadable}"
            )
    parts = sorted(folder.path.glob("*.safetensors"))
    if parts:
        return folder.error(
            f"there is {parts[0].name}, but no {INDEX}, without which its weights are not found",
            folder.download_again(INDEX) if len(parts) > 1 else f"rename {parts[0].name} to model.safetensors",
        )
    return folder.error("the folder has no weights (*.safetensors)", folder.download_again())


def has_weights(path: Path) -> bool:
    """Whether a folder holds any file of weights, or an index that names some."""
    return any(next(path.glob(pattern), None) for pattern in ("*.safetensors*", f"{_PICKLE}*", *_OTHER_FORMATS))
