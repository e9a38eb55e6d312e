"""Tensors in the files of a model or an adapter, read block by block, so that memory does not grow with the model."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from dpo_tui.errors import TrainingError
from dpo_tui.text.plain_documents import parse_json

ADAPTER_FILE = "adapter_model.safetensors"
_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_BLOCK = 1 << 22
"""Elements read at once where a whole tensor is read."""
_SAMPLE = 1 << 14
"""Elements of each of the three blocks that stand for a tensor: at its beginning, middle and end."""
Block = tuple[slice, ...]


class StoredTensors:
    """The tensors of a folder's weights; opening it reads only headers.

    Args:
        folder: a base model, a result or a checkpoint, with safetensors or, as some base models, pickled weights.

    Attributes:
        names: of all tensors.

    Raises:
        TrainingError: the folder has no weights, a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, Any] = {}
        self._file_of: dict[str, str] = {}
        for file in _files(folder):
            self._open[file] = opened = _opened(folder / file)
            self._file_of |= dict.fromkeys(opened.keys(), file)
        self.names = tuple(self._file_of)
        # Files of one family may leave out the beginning of a name: GPT-2's do.
        self._by_ending: dict[str, set[str]] = {}
        for name in self.names:
            for ending in _endings(name):
                self._by_ending.setdefault(ending, set()).add(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        stored = self._open[self._file_of[name]]
        return tuple(stored[name].shape if isinstance(stored, dict) else stored.get_slice(name).get_shape())

    def read(self, name: str, block: Block = ()) -> torch.Tensor:
        """Return a block of a tensor, by default all of it.

        Raises:
            TrainingError: the file is damaged.
        """
        stored = self._open[self._file_of[name]]
        try:
            if isinstance(stored, dict):
                found: torch.Tensor = stored[name][block] if block else stored[name]
                return found
            tensor: torch.Tensor = stored.get_slice(name)[block] if block else stored.get_tensor(name)
        except (SafetensorError, OSError, RuntimeError) as error:
            raise _damaged(self.folder / self._file_of[name], error) from error
        return tensor

    def counterpart(self, name: str, shape: Sequence[int]) -> str | None:
        """Return the tensor that another folder holds under a name: this one, or one with more or less in front."""
        if name in self._file_of:
            found = {name}
        else:
            found = {ending for ending in _endings(name) if ending in self._file_of} or self._by_ending.get(name, set())
        matching = [one for one in found if self.shape(one) == tuple(shape)]
        return matching[0] if len(matching) == 1 else None


def blocks(shape: Sequence[int], *, whole: bool) -> Iterator[Block]:
    """Yield blocks of a tensor: all that make it up, or three that stand for it."""
    if not shape:
        yield ()
        return
    whole = whole or math.prod(shape) <= 3 * _SAMPLE
    size = _BLOCK if whole else _SAMPLE
    in_row = math.prod(shape[1:])
    rows = max(1, size // max(1, in_row))
    # A row that is itself too large, as an expert of several that are one tensor, is cut along its own first axis.
    columns = max(1, size // max(1, math.prod(shape[2:]))) if in_row > size else None
    starts: Sequence[int] = range(0, shape[0], rows)
    if not whole:
        starts = sorted({0, max(0, (shape[0] - rows) // 2), max(0, shape[0] - rows)})
    for start in starts:
        row = slice(start, min(start + rows, shape[0]))
        if columns is None:
            yield (row,)
            continue
        for column in range(0, shape[1], columns) if whole else (0,):
            yield row, slice(column, min(column + columns, shape[1]))


def _files(folder: Path) -> list[str]:
    """Return the names of a folder's files with weights."""
    if (folder / ADAPTER_FILE).is_file():
        return [ADAPTER_FILE]
    for single, index in (_SAFETENSORS, _PICKLED):
        if (folder / index).is_file():
            try:
                files = sorted(set(parse_json((folder / index).read_text(encoding="utf-8"))["weight_map"].values()))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise _damaged(folder / index, error) from error
            missing = [file for file in files if not (folder / file).is_file()]
            if missing:
                raise TrainingError(f"{folder}: {missing[0]}, which {index} names, is not there", hint=_AGAIN)
            return files
        if (folder / single).is_file():
            return [single]
    raise TrainingError(f"{folder}: holds no weights, neither of a model nor of an adapter", hint=_AGAIN)


def _opened(path: Path) -> Any:
    """Return an open safetensors file, or a dict of the tensors of a pickled one, mapped and not read."""
    try:
        if path.suffix == ".bin":
            return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        return safe_open(path, framework="pt")
    except Exception as error:  # safetensors, zipfile and pickle each have their own
        raise _damaged(path, error) from error


def _endings(name: str) -> Iterator[str]:
    """Yield a dotted name without its first part, without its first two, and so on."""
    _, _, rest = name.partition(".")
    while rest:
        yield rest
        _, _, rest = rest.partition(".")


def _damaged(path: Path, error: Exception) -> TrainingError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return TrainingError(f"{path}: cannot be read: {reason}", hint=_AGAIN)


_AGAIN = "copy the folder here again, or use another checkpoint"
