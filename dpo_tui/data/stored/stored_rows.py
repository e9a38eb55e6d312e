"""Rows of a large dataset as a sequence over a memory-mapped Arrow file: a row is made an object when it is read.

A slice or a selection is another view of the same file. What has to be known of all rows to split and check them is in
columns of its own (:mod:`dpo_tui.data.stored.row_writer` has the list), so that no row is parsed for it.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dpo_tui.data.cache_folders import FolderInUse
from dpo_tui.data.columns.arrow_arrays import arrow_array
from dpo_tui.data.pairs.row_bytes import row_bytes
from dpo_tui.data.stored.row_cells import PLAIN_MARK, messages_of_cell
from dpo_tui.data.stored.run_columns import offsets_of

Item = TypeVar("Item")
ROWS = "rows.arrow"
UNLIKE = -1
"""The shape of a row that is like no other: it is rendered by itself."""
_BLOCK = 1000
HASH_BYTES = 16
_HASH = np.dtype(f"V{HASH_BYTES}")
_NEXT_MESSAGE = b',{"content":"'
"""Before each message but the first of a plain cell; within a text its quotes would be escaped."""
_CHECKSUM = 4
"""Bytes of the CRC-32 behind the keys of prompts that are kept."""


@dataclass(frozen=True, slots=True)
class RowColumns:
    """Which fields of a row class are held how.

    Args:
        item: the class; its first field is the row's number.
        names: of its other fields, in their order.
    """

    item: type[Any]
    names: tuple[str, ...]

    @classmethod
    def of(cls, item: type[Any]) -> "RowColumns":
        """The columns of a class, which is a dataclass."""
        return cls(item, tuple(field.name for field in fields(item))[1:])

    @property
    def messages(self) -> tuple[str, ...]:
        """The fields that are conversations."""
        return tuple(name for name in self.names if name not in ("tools", "text", "desirable"))

    @property
    def has_prompt(self) -> bool:
        """Whether a field is the prompt; of a demonstration it is a part of the conversation."""
        return "prompt" in self.names


class StoredRows(Sequence[Item], Generic[Item]):
    """Rows in a file.

    Args:
        file: written by :class:`dpo_tui.data.stored.row_writer.RowWriter`.
        columns: what its rows are.
        known: what the writer found out of all rows.
        in_use: keeps the cache folder of the file; None for a file that needs none.
        chosen: numbers of the rows of this view, in its order; None for all rows of the file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not what ``known`` describes.
    """

    def __init__(
        self,
        file: Path,
        columns: RowColumns,
        known: dict[str, Any],
        in_use: FolderInUse | None = None,
        chosen: NDArray[np.int64] | None = None,
    ) -> None:
        self._in_use = in_use
        self.columns = columns
        self.known = known
        self.file = file
        with pa.memory_map(str(file)) as source:
            reader = pa.ipc.open_file(source)
            self.batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self.batches)])
        self._chosen = chosen
        if int(self._starts[-1]) != known["count"]:
            raise ValueError(f"{file} has {self._starts[-1]} rows, not {known['count']}")

    def __len__(self) -> int:
        return int(self._starts[-1]) if self._chosen is None else len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> "StoredRows[Item]": ...
    def __getitem__(self, index: int | slice) -> "Item | StoredRows[Item]":
        if isinstance(index, slice):
            return self.select(np.arange(len(self), dtype=np.int64)[index])
        place = range(len(self))[index]  # as a list counts, and raises
        return next(self._made(self.numbers_in_file[place : place + 1]))

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self), _BLOCK):
            yield from self._made(self._block(start))

    def select(self, places: NDArray[np.int64]) -> "StoredRows[Item]":
        """A view of some of these rows, by their places here, in the order of the places."""
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._chosen = places.astype(np.int64) if self._chosen is None else self._chosen[places]
        return view

    def where(self, mask: NDArray[np.bool_]) -> "StoredRows[Item]":
        """A view of the rows for which a mask is true."""
        return self.select(np.flatnonzero(mask))

    @property
    def is_whole(self) -> bool:
        """Whether these are all rows of the file, in its order."""
        return self._chosen is None

    @property
    def numbers_in_file(self) -> NDArray[np.int64]:
        """The number, from 0, of each row in the file."""
        return np.arange(len(self), dtype=np.int64) if self._chosen is None else self._chosen

    @property
    def row_numbers(self) -> NDArray[np.int64]:
        """The number of each row in its dataset, from 1."""
        return self._fixed("row", np.dtype(np.int64))

    @property
    def shapes(self) -> NDArray[np.int32]:
        """The shape of each row, see `row_cells.row_shape`, as a number; `UNLIKE` for rows that have none."""
        return self._fixed("shape", np.dtype(np.int32))

    @property
    def labels(self) -> NDArray[np.bool_]:
        """Of labelled answers, whether each is desirable."""
        return self._of_all([batch.column("desirable").to_numpy(zero_copy_only=False) for batch in self.batches], bool)

    def column_nulls(self, name: str) -> int:
        """In how many rows a column has no value."""
        return int(
            self._of_all(
                [batch.column(name).is_null().to_numpy(zero_copy_only=False) for batch in self.batches], bool
            ).sum()
        )

    def content_hashes(self) -> NDArray[np.void]:
        """A hash of 16 bytes of each row's conversations, made anew each time: ask few rows for it."""
        found = bytearray()
        for start in range(0, len(self), _BLOCK):
            for batch in self._parts(self._block(start)):
                found += _content_hashes([batch.column(name) for name in self.columns.messages])
        return np.frombuffer(bytes(found), dtype=_HASH)

    def prompt_keys(
        self, key_of: Callable[[Any], bytes], seed: int, prompt_of: Callable[[Item], Any] | None = None
    ) -> NDArray[np.void]:
        """The keys of prompts by which rows are held out.

        They are kept beside the file: they cost more than the rest of the split.

        Args:
            key_of: returns the key of a prompt, for prompts whose JSON text is not in the cell.
            seed: of the keys.
            prompt_of: of demonstrations, returns what counts as the prompt, where that is not all but the last of
                several plain messages.
        """
        kept = self.file.with_name(f"keys-{seed}")
        size = int(self._starts[-1]) * HASH_BYTES
        if not size:
            return np.zeros(0, dtype=_HASH)
        found: NDArray[np.void] | None = None
        if self._in_use is not None:
            with contextlib.suppress(OSError):  # on a full or read-only disk they are held in memory
                found = _mapped_keys(kept, size)
                if found is None:
                    _write_beside(kept, _with_checksum(self._keys(key_of, seed, prompt_of)))
                    found = _mapped_keys(kept, size)
        if found is None:
            found = np.frombuffer(b"".join(self._keys(key_of, seed, prompt_of)), dtype=_HASH)
        return found if self._chosen is None else found[self._chosen]

    def _keys(
        self, key_of: Callable[[Any], bytes], seed: int, prompt_of: Callable[[Item], Any] | None
    ) -> Iterator[bytes]:
        key = str(seed).encode()
        if prompt_of is None or self.columns.has_prompt:
            yield from (_keys_of(batch.column("prompt"), key_of, key) for batch in self.batches)
            return
        for batch in self.batches:

            def key_at(place: int, batch: pa.RecordBatch = batch) -> bytes:
                return key_of(prompt_of(next(self._items(batch.slice(place, 1)))))

            yield _keys_of_conversations(batch.column("messages"), key_at, key)

    def _fixed(self, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
        """A column of values of one size."""
        found = np.empty(len(self), dtype=dtype)
        chosen = self._chosen
        in_order = chosen is None or bool((chosen[1:] > chosen[:-1]).all())
        for number, batch in enumerate(self.batches):
            column = batch.column(name)
            values = np.frombuffer(column.buffers()[1], dtype=dtype)[column.offset : column.offset + len(column)]
            first, last = int(self._starts[number]), int(self._starts[number + 1])
            if chosen is None:
                found[first:last] = values
            elif in_order:  # batch by batch, so that the rows that were not chosen are never held
                low, high = np.searchsorted(chosen, [first, last])
                found[low:high] = values[chosen[low:high] - first]
            else:
                places = np.flatnonzero((chosen >= first) & (chosen < last))
                found[places] = values[chosen[places] - first]
        return found

    def _of_all(self, parts: list[NDArray[Any]], dtype: Any) -> NDArray[Any]:
        """The values of these rows, from those of the batches."""
        found = np.concatenate([np.zeros(0, dtype=dtype), *parts]).astype(dtype, copy=False)
        return found if self._chosen is None else found[self._chosen]

    def _block(self, start: int) -> NDArray[np.int64]:
        stop = min(start + _BLOCK, len(self))
        return np.arange(start, stop, dtype=np.int64) if self._chosen is None else self._chosen[start:stop]

    def _made(self, numbers: NDArray[np.int64]) -> Iterator[Item]:
        """The rows with some numbers in the file, in their order."""
        for batch in self._parts(numbers):
            yield from self._items(batch)

    def _parts(self, numbers: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        """The cells of these rows."""
        batch_of = np.searchsorted(self._starts, numbers, side="right") - 1
        ends = [*np.flatnonzero(np.diff(batch_of)) + 1, len(numbers)]
        start = 0
        for end in ends:
            which = int(batch_of[start])
            local = numbers[start:end] - self._starts[which]
            # In order, a slice is a view; `take` copies.
            in_order = local[-1] - local[0] == len(local) - 1 and bool((np.diff(local) == 1).all())
            batch = self.batches[which]
            yield batch.slice(int(local[0]), len(local)) if in_order else batch.take(arrow_array(local))
            start = end

    def _items(self, batch: pa.RecordBatch) -> Iterator[Item]:
        cells = [self._values(name, batch.column(name).to_pylist()) for name in self.columns.names]
        for row in zip(batch.column("row").to_pylist(), *cells, strict=True):
            yield self.columns.item(*row)

    def _values(self, name: str, cells: list[Any]) -> list[Any]:
        if name in self.columns.messages:
            return [messages_of_cell(cell) for cell in cells]
        return [None if cell is None else json.loads(cell) for cell in cells] if name == "tools" else cells


def _keys_of(prompts: pa.Array, key_of: Callable[[Any], bytes], key: bytes) -> bytes:
    """The keys of the prompts of a batch, one after the other."""
    offsets = offsets_of(prompts).tolist()
    data = memoryview(prompts.buffers()[2])
    mark = len(PLAIN_MARK)
    plain = pc.starts_with(prompts, PLAIN_MARK).to_pylist()
    return b"".join(
        [
            hashlib.blake2b(data[start + mark : end], digest_size=HASH_BYTES, key=key).digest()
            if is_plain
            else key_of(messages_of_cell(bytes(data[start:end]).decode()))
            for is_plain, start, end in zip(plain, offsets, offsets[1:], strict=False)
        ]
    )


def _keys_of_conversations(conversations: pa.Array, key_at: Callable[[int], bytes], key: bytes) -> bytes:
    """The keys of all but the last message of each conversation of a batch, one after the other.

    Args:
        conversations: their cells.
        key_at: returns the key of a row by its place, for one that is not plain or has no two messages.
        key: of the hash.
    """
    data, offsets = memoryview(conversations.buffers()[2]), offsets_of(conversations).tolist()
    plain = pc.starts_with(conversations, PLAIN_MARK).to_pylist()
    found: list[bytes] = []
    for place, (is_plain, start, end) in enumerate(zip(plain, offsets, offsets[1:], strict=False)):
        cell = bytes(data[start + len(PLAIN_MARK) : end])
        last = cell.rfind(_NEXT_MESSAGE) if is_plain else -1
        prompt = cell[:last] + b"]"
        found.append(key_at(place) if last < 0 else hashlib.blake2b(prompt, digest_size=HASH_BYTES, key=key).digest())
    return b"".join(found)


def _content_hashes(conversations: list[pa.Array]) -> bytes:
    """The hashes of rows' conversations, one after the other."""
    mark = len(PLAIN_MARK)

    def json_texts(cells: pa.Array) -> Iterator[bytes]:
        # As JSON text, whatever the cells are, so that a row in another form of the same content is its copy.
        for cell in cells.to_pylist():
            yield cell[mark:].encode() if cell.startswith(PLAIN_MARK) else row_bytes(messages_of_cell(cell))

    rows = zip(*map(json_texts, conversations), strict=True)
    return b"".join([hashlib.blake2b(b",".join(row), digest_size=HASH_BYTES).digest() for row in rows])


def _mapped_keys(path: Path, size: int) -> NDArray[np.void] | None:
    """Map the keys of a file, since millions of them would take more memory than the rest of the split.

    Returns:
        None where there is no whole file: a changed key would move its row into, or out of, the held-out part.
    """
    if not path.is_file() or path.stat().st_size != size + _CHECKSUM:
        return None
    content = np.memmap(path, dtype=np.uint8, mode="r")
    keys, checksum = content[:size], content[size:]
    return keys.view(_HASH) if zlib.crc32(keys.data) == int.from_bytes(checksum.tobytes(), "big") else None


def _with_checksum(parts: Iterable[bytes]) -> Iterator[bytes]:
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
        yield part
    yield checksum.to_bytes(_CHECKSUM, "big")


def _write_beside(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: the disk is full or read-only.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # others may write the same now
    try:
        with open(descriptor, "wb") as file:
            file.writelines(parts)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
