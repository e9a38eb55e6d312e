"""Arrow's values without `pyarrow.array` and `pyarrow.scalar`: these import pandas, a quarter of a second."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def arrow_array(values: NDArray[Any]) -> pa.Array:
    """An array of whole numbers, over the memory of numpy's, or of truth values."""
    found = np.ascontiguousarray(values)
    if found.dtype == np.bool_:
        return pa.Array.from_buffers(pa.bool_(), len(found), [None, pa.py_buffer(_bits(found))])
    return pa.Array.from_buffers(pa.from_numpy_dtype(found.dtype), len(found), [None, pa.py_buffer(found)])


def arrow_texts(values: list[bytes | None]) -> pa.Array:
    """An array of texts in UTF-8, of less than 2 GB together."""
    present = np.array([value is not None for value in values], dtype=np.bool_)
    whole = [value or b"" for value in values]
    bounds = np.cumsum([0, *map(len, whole)]).astype(np.int32)
    valid = None if present.all() else pa.py_buffer(_bits(present))
    return pa.Array.from_buffers(pa.string(), len(values), [valid, pa.py_buffer(bounds), pa.py_buffer(b"".join(whole))])


def _bits(values: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.packbits(values, bitorder="little")


def binary_scalar(text: bytes) -> pa.Scalar:
    """Bytes as a value that Arrow's functions take."""
    bounds = np.array([0, len(text)], dtype=np.int32)
    return pa.Array.from_buffers(pa.binary(), 1, [None, pa.py_buffer(bounds), pa.py_buffer(text)])[0]
