"""Write rows into an Arrow file as they are read, with what has to be known of all of them.

Columns of the file: ``row``, the fields of the row as cells (:mod:`dpo_tui.data.stored.row_cells`), ``shape``,
``content_hash``, and where there are prompts ``prompt_hash``.
"""

import errno
import hashlib
import shutil
from collections.abc import Hashable
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson
import pyarrow as pa

from dpo_tui.data.stored.row_cells import (
    PLAIN_MARK,
    UnstorableError,
    json_cell,
    messages_cell,
    plain_shape,
    row_bytes,
    row_shape,
)
from dpo_tui.data.stored.stored_rows import UNLIKE, RowColumns

FREE_BYTES = 1000**3
"""Bytes of the disk that are left to others."""
_BATCH_ROWS = 5000
_BATCH_BYTES = 64 << 20
_MOST_SHAPES = 50_000
_HASH_BYTES = 16
_TEXTS_SHAPE = (("user", False), None, ("assistant", False), None, ("assistant", False), None)
"""The shape of a pair of three texts."""
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
        self._content_hashes: list[bytes] = []
        self._prompt_hashes: list[bytes] = []
        self._lines: list[bytes] = []
        self._texts: list[tuple[int, str, str, str]] = []
        self._held = 0
        self._shapes: dict[Hashable, int] = {}
        self._digest = hashlib.blake2b(b"dataset\n", digest_size=_HASH_BYTES)

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self._sink.close()

    def add(self, item: Any) -> None:
        """Write a row.

        Raises:
            UnstorableError: a cell would not give back what the row has; nothing of the row is written.
            NoRoomError: the disk is nearly full.
            OSError: it cannot be written.
        """
        self._take_texts()
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
        self._finish(item.row, parts, whole, self._shape_number(tuple(shape)))

    def add_texts(self, row: int, triple: tuple[str, str, str]) -> None:
        """Write a pair of three texts that are not blank, as `pair_of` makes messages of them.

        Raises:
            NoRoomError: the disk is nearly full.
            OSError: it cannot be written.
        """
        self._texts.append((row, *triple))
        if len(self._texts) >= _BATCH_ROWS:
            self._flush()

    def _take_texts(self) -> None:
        """Make cells of the texts that wait; together, for these are all rows of most large datasets."""
        if not self._texts:
            return
        numbers, prompts, chosen, rejected = zip(*self._texts, strict=True)
        self._texts.clear()
        dumps = orjson.dumps
        json_texts = list(map(dumps, prompts)), list(map(dumps, chosen)), list(map(dumps, rejected))
        columns = [
            [b'%b[{"content":%b,"role":"%b"}]' % (_PLAIN_MARK_BYTES, text, role) for text in texts]
            for texts, role in zip(json_texts, (b"user", b"assistant", b"assistant"), strict=True)
        ]
        mark = len(_PLAIN_MARK_BYTES)
        lines = [
            b"[%d,%b,%b,%b,null]\n" % (number, prompt[mark:], good[mark:], bad[mark:])
            for number, prompt, good, bad in zip(numbers, *columns, strict=True)
        ]
        for cells, column in zip(self._cells, columns, strict=False):
            cells.extend(column)
        self._cells[3] += [None] * len(numbers)
        self._lines += lines
        self._held += sum(map(len, lines))
        self._rows += numbers
        self._row_shapes += [self._shape_number(_TEXTS_SHAPE)] * len(numbers)
        hashes = [_hash(cell) for cell in columns[0]]
        self._prompt_hashes += hashes
        self._content_hashes += map(_content_hash, hashes, columns[1], columns[2])
        self.known["count"] += len(numbers)

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
        parts = [row_bytes([value])[1:-1] for value in values]
        whole = row_bytes([item.row, *values])[1:-1].partition(b",")[2]
        shape = row_shape(item.tools, *conversations)
        self.known["has_tools"] |= bool(item.tools)
        self.known["has_calls"] |= any(message.get("tool_calls") for one in conversations for message in one)
        self._finish(item.row, parts, whole, UNLIKE if shape is None else self._shape_number(shape))

    def _finish(self, row: int, parts: list[bytes], whole: bytes, shape: int) -> None:
        # Hashed as the cells of plain messages, so that a row in another form of the same content is its copy.
        cells = [_PLAIN_MARK_BYTES + parts[at] for at in self._conversations]
        first = _hash(cells[0])
        self._lines.append(b"[%d,%b]\n" % (row, whole))
        self._rows.append(row)
        self._row_shapes.append(shape)
        self._content_hashes.append(_content_hash(first, *cells[1:]))
        if self._columns.has_prompt:
            self._prompt_hashes.append(first)
        self.known["count"] += 1
        self._held += len(whole)
        if len(self._rows) >= _BATCH_ROWS or self._held >= _BATCH_BYTES:
            self._flush()

    def close(self) -> None:
        """Write what is left, and the end of the file; nothing where that was done."""
        if self._sink.closed:
            return
        self._flush()
        self._writer.close()
        self._sink.close()
        self.known["reading"] = self._digest.hexdigest()

    def _flush(self) -> None:
        self._take_texts()
        if not self._rows:
            return
        if shutil.disk_usage(self._place).free < FREE_BYTES + self._held:
            raise NoRoomError(errno.ENOSPC, "the disk is nearly full", str(self._place))
        self._digest.update(b"".join(self._lines))
        columns = [self._rows, *self._cells, self._row_shapes, self._content_hashes]
        columns += [self._prompt_hashes] if self._columns.has_prompt else []
        arrays = [_array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        for values in (*columns, self._lines):
            values.clear()
        self._held = 0

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


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind != pa.string():
        return pa.array(values, kind)
    texts = [value.encode() if isinstance(value, str) else value for value in values]
    return pa.array(texts, pa.binary()).view(kind)


def _encodable(text: str) -> str:
    """A text, unless UTF-8 cannot hold it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise UnstorableError(str(error)) from error
    return text


def _schema(columns: RowColumns) -> pa.Schema:
    hashes = ["content_hash", *(["prompt_hash"] if columns.has_prompt else [])]
    return pa.schema(
        [
            ("row", pa.int64()),
            *((name, pa.bool_() if name == "desirable" else pa.string()) for name in columns.names),
            ("shape", pa.int32()),
            *((name, pa.binary(_HASH_BYTES)) for name in hashes),
        ]
    )


def _content_hash(first: bytes, *cells: bytes) -> bytes:
    """The hash of conversations, of which the first is given by its own hash."""
    return hashlib.blake2b(b"".join((first, *cells)), digest_size=_HASH_BYTES).digest()


def _hash(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_HASH_BYTES).digest()
