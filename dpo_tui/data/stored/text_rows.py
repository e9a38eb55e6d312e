"""Columns of the Arrow file for pairs of three plain texts, made together: most large datasets have no other rows.

JSON texts are joined to cells and lines by Arrow's own functions: making bytes objects of each row takes longer.
"""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dpo_tui.data.rows.text_run import TextRun
from dpo_tui.data.stored.row_cells import PLAIN_MARK

HASH_BYTES = 16
_AFTER_NUMBER = b","
_END = b",null]\n"


class TextRows:
    """Pairs of texts as columns.

    Args:
        first: number of the first row; the others follow.
        texts: the rows.

    Attributes:
        columns: number, the three conversations as cells, and tools, which are null.
        content_hashes: of the JSON texts of the three conversations, joined by commas.
        prompt_hashes: of the JSON text of the prompt.
        lines: the text of all rows for the digest of what was read.
    """

    def __init__(self, first: int, texts: TextRun) -> None:
        parts = [
            _messages(texts.prompts, b"user"),
            _messages(texts.chosen, b"assistant"),
            _messages(texts.rejected, b"assistant"),
        ]
        rows = pa.array(np.arange(first, first + len(texts)))
        digits = rows.cast(pa.string()).cast(pa.binary())
        lines = _joined(b"[", digits, _AFTER_NUMBER, parts[0], b",", parts[1], b",", parts[2], _END)
        cells = [_joined(PLAIN_MARK.encode(), part).view(pa.string()) for part in parts]
        self.columns = [rows, *cells, pa.nulls(len(texts), pa.string())]
        offsets = offsets_of(lines)
        self.lines = memoryview(lines.buffers()[2])[: int(offsets[-1])]
        # The conversations stand in the line from the comma after the number to the end, and are hashed there.
        starts = offsets[:-1] + 1 + np.diff(offsets_of(digits)) + len(_AFTER_NUMBER)
        self.content_hashes = _hashes(self.lines, starts, offsets[1:] - len(_END))
        self.prompt_hashes = _hashes(self.lines, starts, starts + np.diff(offsets_of(parts[0])))


def hash_of(text: bytes | memoryview) -> bytes:
    """The hash by which rows and prompts are compared."""
    return hashlib.blake2b(text, digest_size=HASH_BYTES).digest()


def offsets_of(array: pa.Array) -> NDArray[np.int64]:
    """Where each text of an array begins in its buffer of bytes, and the end of the last one."""
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int32)
    return offsets[array.offset : array.offset + len(array) + 1].astype(np.int64)


def _messages(content: pa.BinaryArray, role: bytes) -> pa.Array:
    """The JSON texts of conversations of one message, with sorted keys."""
    return _joined(b'[{"content":', content, b',"role":"%b"}]' % role)


def _joined(*parts: pa.Array | bytes) -> pa.Array:
    values = [pa.scalar(part, pa.binary()) if isinstance(part, bytes) else part for part in parts]
    return pc.binary_join_element_wise(*values, pa.scalar(b"", pa.binary()))


def _hashes(data: memoryview, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> pa.Array:
    found = b"".join([hash_of(data[start:end]) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)])
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(HASH_BYTES), len(starts), [None, pa.py_buffer(found)])
