"""What TRL's trainers make of several tokenised rows together, of a stream of them: packed rows, answers for KL."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from datasets import Dataset
from trl.data_utils import pack_dataset

_PACKED_AT_ONCE = 10_000
"""A multiple of the thousand rows that TRL packs together, so that the same rows are."""


def packed(batches: Iterator[pa.RecordBatch], length: int, strategy: str) -> Iterator[pa.RecordBatch]:
    """Pack rows as SFTTrainer does.

    Args:
        batches: rows of ``input_ids`` and ``labels``.
        length: of a packed row, in tokens.
        strategy: TRL's name of it.
    """
    for table in _grouped(batches, _PACKED_AT_ONCE):
        made = pack_dataset(Dataset(table), length, strategy, {})
        yield from made.data.table.combine_chunks().to_batches()


def with_kl_answers(batches: Iterator[pa.RecordBatch], size: int) -> Iterator[pa.RecordBatch]:
    """Give each answer that of the row before it in its micro-batch, the first that of the last, as in KTOTrainer.

    Args:
        batches: rows with ``completion_ids``.
        size: rows of a micro-batch.
    """
    for table in _grouped(batches, size * max(1, _PACKED_AT_ONCE // size)):
        places = np.arange(len(table))
        before = places - 1
        firsts = places[::size]
        before[firsts] = np.minimum(firsts + size, len(table)) - 1
        answers = table["completion_ids"].combine_chunks().take(pa.array(before))
        yield from table.append_column("KL_completion_ids", answers).combine_chunks().to_batches()


def _grouped(batches: Iterator[pa.RecordBatch], size: int) -> Iterator[pa.Table]:
    """The rows as tables of a size, but for the last one."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        while rows >= size:
            table = pa.Table.from_batches(held)
            yield table.slice(0, size)
            rest = table.slice(size)
            held, rows = rest.to_batches(), rest.num_rows
    if rows:
        yield pa.Table.from_batches(held)
