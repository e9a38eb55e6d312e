"""Write rows into an Arrow file as they are read, with what has to be known of all of them.

Columns of the file: ``row``, the fields of the row as cells (:mod:`dpo_tui.data.stored.row_cells`), and ``shape``.
"""

import errno
import hashlib
import shutil
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from dpo_tui.data.columns.arrow_arrays import arrow_array, arrow_texts
from dpo_tui.data.pairs.row_bytes import row_bytes
from dpo_tui.data.rows.pair_run import PairRun
from dpo_tui.data.stored.row_cells import (
    PLAIN_MARK,
    UnstorableError,
    json_cell,
    messages_cell,
    plain_shape,
    row_shape,
)
from dpo_tui.data.stored.run_columns import RunColumns, joined
from dpo_tui.data.stored.stored_rows import UNLIKE, RowColumns

FREE_BYTES = 1000**3
"""Bytes of the disk that are left to others."""
_DIGEST_BYTES = 16
_BATCH_ROWS = 5000
_WHOLE_BATCH = 1000
"""A batch of so many rows is written as it is; smaller ones are joined."""
_BATCH_BYTES = 64 << 20
_MOST_WAITING = 4
"""Calls that wait for the thread: blocks of some megabytes each."""
_MOST_SHAPES = 50_000
_FEW_PAIRS = 64
"""So few rows of a run are not worth a batch."""
_PLAIN_MARK_BYTES = PLAIN_MARK.encode()


class NoRoomError(OSError):
    """The disk has no room for the rows."""


class RowWriter:
    """Writes rows; to be used as a context manager.

    Args:
        file: to write.
        columns: what the rows are.

    Attributes:
        known: what is known of the rows so far, for :class:`dpo_tui.data.stored.stored_rows.StoredRows`; complete after
            `close`. ``reading`` is their digest, as :mod:`dpo_tui.data.reading_digest` makes it.
    """

    def __init__(self, file: Path, columns: RowColumns) -> None:
        self.known: dict[str, Any] = {"count": 0, "has_tools": False, "has_calls": False}
        self._columns = columns
        self._schema = _schema(columns)
        self._place = file.parent
        self._sink = pa.OSFile(str(file), "wb")
        self._writer = pa.ipc.new_file(self._sink, self._schema)
        self._values = attrgetter(*columns.names)
        self._conversations = [at for at, name in enumerate(columns.names) if name in columns.messages]
        self._others = [at for at, name in enumerate(columns.names) if name not in columns.messages]
        self._cells: list[list[Any]] = [[] for _ in columns.names]
        self._rows: list[int] = []
        self._row_shapes: list[int] = []
        self._lines: list[bytes] = []
        self._batches: list[pa.RecordBatch] = []
        self._kept_rows = self._kept_bytes = 0
        self._held = 0
        # Hashing and writing need no objects of Python, so that a thread does it while the next rows are read.
        self._thread = ThreadPoolExecutor(1, "write-rows")
        self._waiting: deque[Future[object]] = deque()
        self._shapes: dict[Hashable, int] = {}
        self._digest = hashlib.blake2b(b"dataset\n", digest_size=_DIGEST_BYTES)

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self._thread.shutdown(cancel_futures=True)
            self._sink.close()

    def add(self, item: Any) -> None:
        """Write a row.

        Raises:
            UnstorableError: a cell would not give back what the row has; nothing of the row is written.
            NoRoomError: the disk is nearly full.
            OSError: it cannot be written.
        """
        values = self._values(item)
        tools = item.tools
        shape: list[tuple[str, bool] | None] = []
        # Nearly every row: messages of a role and a text, whose sorted JSON text is cell, digest and hash in one.
        plain = not tools and all(plain_shape(values[at], shape) for at in self._conversations)
        parts = self._plain_parts(values) if plain else None
        if parts is None:
            self._add_other(item, values)
            return
        whole = b",".join(parts)
        cells = self._cells
        for at in self._conversations:
            cells[at].append(_PLAIN_MARK_BYTES + parts[at])
        for at in self._others:
            cells[at].append(values[at])
        self._finish(item.row, whole, self._shape_number(tuple(shape)))

    def add_pairs(self, first: int, run: PairRun) -> None:
        """Write pairs that were read together.

        Args:
            first: number of the first row; the others follow.
            run: the pairs.

        Raises:
            NoRoomError: the disk is nearly full.
            OSError: it cannot be written.
        """
        examples = [kind.example for kind in run.kinds]
        found = [row_shape(None, one.prompt, one.chosen, one.rejected) for one in examples]
        numbers = np.array(list(map(self._shape_number, found)), dtype=np.int32)
        shapes = numbers[run.kind_of]
        if len(run) >= _FEW_PAIRS:
            self._collect()
            self._keep_pairs(shapes, RunColumns(first, run))
            return
        columns = (joined(*one).to_pylist() for one in (run.prompts, run.chosen, run.rejected))
        for number, (shape, *parts) in enumerate(zip(shapes.tolist(), *columns, strict=True), start=first):
            for cells, part in zip(self._cells, parts, strict=False):
                cells.append(_PLAIN_MARK_BYTES + part)
            self._cells[3].append(None)
            self._finish(number, b",".join([*parts, b"null"]), shape)

    def _keep_pairs(self, shapes: NDArray[np.int32], rows: RunColumns) -> None:
        self._behind(self._digest.update, rows.lines)
        self.known["count"] += len(shapes)
        columns = [*rows.columns, arrow_array(shapes)]
        self._keep(pa.RecordBatch.from_arrays(columns, schema=self._schema), len(rows.lines))
        if self._kept_rows >= _BATCH_ROWS or self._kept_bytes >= _BATCH_BYTES:
            self._flush()

    def _plain_parts(self, values: tuple[Any, ...]) -> list[bytes] | None:
        """The sorted JSON texts of a row's values; None where one has half of a surrogate pair."""
        try:
            return [orjson.dumps(value, option=orjson.OPT_SORT_KEYS) for value in values]
        except TypeError:
            return None

    def _add_other(self, item: Any, values: tuple[Any, ...]) -> None:
        """Write a row with tools, or with messages of more than a role and a text."""
        names, conversations = self._columns.names, [values[at] for at in self._conversations]
        made = [self._cell(name, value) for name, value in zip(names, values, strict=True)]
        for cells, cell in zip(self._cells, made, strict=True):
            cells.append(cell)
        whole = row_bytes([item.row, *values])[1:-1].partition(b",")[2]
        shape = row_shape(item.tools, *conversations)
        self.known["has_tools"] |= bool(item.tools)
        self.known["has_calls"] |= any(message.get("tool_calls") for one in conversations for message in one)
        self._finish(item.row, whole, UNLIKE if shape is None else self._shape_number(shape))

    def _finish(self, row: int, whole: bytes, shape: int) -> None:
        self._lines.append(b"[%d,%b]\n" % (row, whole))
        self._rows.append(row)
        self._row_shapes.append(shape)
        self.known["count"] += 1
        self._held += len(whole)
        if len(self._rows) + self._kept_rows >= _BATCH_ROWS or self._held + self._kept_bytes >= _BATCH_BYTES:
            self._flush()

    def close(self) -> None:
        """Write what is left, and the end of the file; nothing where that was done."""
        if self._sink.closed:
            return
        self._flush()
        self._wait(0)
        self._thread.shutdown()
        self._writer.close()
        self._sink.close()
        self.known["reading"] = self._digest.hexdigest()

    def _flush(self) -> None:
        self._collect()
        if not self._batches:
            return
        if shutil.disk_usage(self._place).free < FREE_BYTES + self._kept_bytes:
            raise NoRoomError(errno.ENOSPC, "the disk is nearly full", str(self._place))
        # Batches of a few rows, between rows of another kind, would make the file slow to read.
        while self._batches:
            count = 1
            while count < len(self._batches) and self._batches[count - 1].num_rows < _WHOLE_BATCH:
                count += 1
            first, self._batches = self._batches[:count], self._batches[count:]
            joined = first[0] if count == 1 else pa.Table.from_batches(first).combine_chunks().to_batches()[0]
            self._behind(self._writer.write_batch, joined)
        self._kept_rows = self._kept_bytes = 0

    def _behind(self, function: Callable[[Any], object], data: Any) -> None:
        """Have a function of the writer or the digest called by the thread, after those before it."""
        self._waiting.append(self._thread.submit(function, data))
        self._wait(_MOST_WAITING)

    def _wait(self, most: int) -> None:
        """Wait until at most some calls are left.

        Raises:
            OSError: one of them has failed.
        """
        while len(self._waiting) > most:
            self._waiting.popleft().result()

    def _collect(self) -> None:
        """Make a batch of the cells that were collected row by row."""
        if not self._rows:
            return
        self._behind(self._digest.update, b"".join(self._lines))
        columns = [self._rows, *self._cells, self._row_shapes]
        arrays = [_cells(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
        held, self._held = self._held, 0
        for values in (*columns, self._lines):
            values.clear()
        self._keep(pa.RecordBatch.from_arrays(arrays, schema=self._schema), held)

    def _keep(self, batch: pa.RecordBatch, size: int) -> None:
        self._batches.append(batch)
        self._kept_rows += batch.num_rows
        self._kept_bytes += size

    def _cell(self, name: str, value: Any) -> Any:
        if name in self._columns.messages:
            return messages_cell(value)
        if name == "tools":
            return json_cell(value) if value else None
        return _encodable(value) if name == "text" and value is not None else value

    def _shape_number(self, shape: Hashable) -> int:
        number = self._shapes.get(shape)
        if number is None:
            if len(self._shapes) >= _MOST_SHAPES:
                return UNLIKE
            number = self._shapes[shape] = len(self._shapes)
        return number


def _cells(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind == pa.string():
        return arrow_texts([value.encode() if isinstance(value, str) else value for value in values])
    return arrow_array(np.array(values)).cast(kind)


def _encodable(text: str) -> str:
    """A text, unless UTF-8 cannot hold it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise UnstorableError(str(error)) from error
    return text


def _schema(columns: RowColumns) -> pa.Schema:
    return pa.schema(
        [
            ("row", pa.int64()),
            *((name, pa.bool_() if name == "desirable" else pa.string()) for name in columns.names),
            ("shape", pa.int32()),
        ]
    )
