"""Header of a safetensors file: the names, shapes and positions of its tensors, and whether the file is whole.

The format is eight bytes (the header's length, little-endian), a JSON object, and the data without holes
(https://github.com/huggingface/safetensors, "Format"). No weight is read.
"""

import json
import struct
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

_LENGTH = struct.Struct("<Q")
_LONGEST_HEADER = 100_000_000
"""The library's own limit, in bytes."""
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
}  # fmt: skip
_POINTER = b"version https://git-lfs.github.com/spec/"


class DamagedFileError(ValueError):
    """A file is not what its name says; the message is a clause that follows the file's name."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        dtype: by the format's own name, such as ``BF16``.
        shape: of the tensor.
    """

    dtype: str
    shape: tuple[int, ...]


def read_header(file: Path) -> dict[str, StoredTensor]:
    """Read the header of a safetensors file, and compare the file's size with it.

    Raises:
        DamagedFileError: the file is cut, longer than its header says, or no safetensors file.
        OSError: it cannot be read.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(len(_POINTER))
        require_content(start, size)
        stream.seek(0)
        first = stream.read(_LENGTH.size)
        if len(first) < _LENGTH.size:
            raise DamagedFileError(f"is cut: it has {size} bytes, too few for a header")
        (length,) = _LENGTH.unpack(first)
        available = size - _LENGTH.size
        if length > _LONGEST_HEADER:
            raise DamagedFileError("is no safetensors file, or its beginning is damaged")
        if length > available:
            raise DamagedFileError(f"is cut: its header has {length:,} bytes, and the file {size:,}")
        header = stream.read(length)
    try:
        content = json.loads(header)
    except (ValueError, RecursionError):
        raise DamagedFileError("has a damaged header: it is no JSON") from None
    if not isinstance(content, dict):
        raise DamagedFileError("has a damaged header: it is no JSON object")
    content.pop("__metadata__", None)
    tensors, spans = {}, []
    for name, entry in content.items():
        tensors[name], span = _tensor(name, entry)
        spans.append(span)
    _require_whole(sorted(spans), available - length)
    return tensors


def require_content(start: bytes, size: int) -> None:
    """Check by its first bytes that a file holds what it should, and not what a failed download leaves.

    Raises:
        DamagedFileError: it is empty, a pointer of Git LFS, or a web page.
    """
    if not size:
        raise DamagedFileError("is empty")
    if start.startswith(_POINTER[: len(start)]) and len(start) > len(b"version "):
        raise DamagedFileError(f"is a pointer of Git LFS ({size} bytes) in place of the file itself")
    if start.lstrip()[:9].lower() in (b"<!doctype", b"<html>", b"<html lan") or start.lstrip()[:6].lower() == b"<html>":
        raise DamagedFileError("is a web page in place of the file itself")


_LARGEST = 1 << 63
"""The format's numbers have 64 bits; of a type that is not known here no size can be compared."""


def _tensor(name: str, entry: Any) -> tuple[StoredTensor, tuple[int, int]]:
    """Return a tensor and where its data begins and ends."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = all(isinstance(number, int) and number >= 0 for number in (*shape, begin, end)) and begin <= end
        whole = whole and max(prod(shape), end) < _LARGEST
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole or not isinstance(dtype, str):
        raise DamagedFileError(f"has a damaged header: the entry of {name} is not that of a tensor")
    if dtype in BITS and prod(shape) * BITS[dtype] // 8 != end - begin:
        raise DamagedFileError(f"has a damaged header: {name} has {end - begin} bytes, which is not {dtype} {shape}")
    return StoredTensor(dtype, tuple(shape)), (begin, end)


def _require_whole(spans: list[tuple[int, int]], present: int) -> None:
    """Check that tensors fill the data without holes, and that all of it is there."""
    needed = spans[-1][1] if spans else 0
    if needed > present:
        raise DamagedFileError(f"is cut: {needed - present:,} of its {needed:,} bytes of weights are missing")
    if needed < present:
        raise DamagedFileError(f"is damaged: it has {present - needed:,} bytes more than its header names")
    if (spans and spans[0][0] != 0) or any(end != begin for (_, end), (begin, _) in pairwise(spans)):
        raise DamagedFileError("has a damaged header: its tensors overlap or leave holes")
