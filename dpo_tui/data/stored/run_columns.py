"""Columns of the Arrow file for pairs that are read together: most large datasets have hardly any other rows.

JSON texts are joined to cells and lines by Arrow's own functions: making bytes objects of each row takes longer.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dpo_tui.data.columns.arrow_arrays import arrow_array, binary_scalar
from dpo_tui.data.rows.pair_run import PairRun, Parts
from dpo_tui.data.stored.row_cells import PLAIN_MARK


class RunColumns:
    """Pairs as columns.

    Args:
        first: number of the first row; the others follow.
        run: the rows.

    Attributes:
        columns: number, the three conversations as cells, and tools, which are null.
        lines: the text of all rows for the digest of what was read.
    """

    def __init__(self, first: int, run: PairRun) -> None:
        conversations = (run.prompts, run.chosen, run.rejected)
        rows = arrow_array(np.arange(first, first + len(run)))
        cells = [joined(PLAIN_MARK.encode(), *one).view(pa.string()) for one in conversations]
        self.columns = [rows, *cells, pa.nulls(len(run), pa.string())]
        parts: Parts = [b"[", rows.cast(pa.string()).cast(pa.binary())]
        for one in conversations:
            parts += [b",", *one]
        lines = joined(*parts, b",null]\n")
        self.lines = memoryview(lines.buffers()[2])[: int(offsets_of(lines)[-1])]


def offsets_of(array: pa.Array) -> NDArray[np.int64]:
    """Where each text of an array begins in its buffer of bytes, and the end of the last one."""
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int32)
    return offsets[array.offset : array.offset + len(array) + 1].astype(np.int64)


def joined(*parts: pa.BinaryArray | bytes) -> pa.BinaryArray:
    """The texts of rows from their parts, see `pair_run.Parts`."""
    values = [binary_scalar(part) if isinstance(part, bytes) else part for part in parts]
    return pc.binary_join_element_wise(*values, binary_scalar(b""))
