"""Reader of the scalars in a growing TensorBoard event file, without TensorBoard.

The file is a sequence of TFRecords (length as uint64, a checksum, the data, a checksum); each holds an ``Event``, a
protocol buffer: 1 wall_time (double), 2 step (int64), 5 summary → 1 value → 1 tag, 2 simple_value (float), 8 tensor →
5 float_val (tensorflow/core/util/event.proto, framework/summary.proto, tensor.proto). Checksums are not verified.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

CHUNK = 4 << 20
_LONGEST = 64 << 20
"""Bytes of the longest record that is read; scalars are small, so longer ones are skipped."""
_HEADER, _FOOTER = 12, 4
"""Bytes before a record's data (its length and the checksum of that) and after it (the checksum of the data)."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EMBEDDED = 4
"""Bytes of a tensor_content that is one little-endian float."""


class EventFileTail:
    """Reads each scalar of a growing file once, as a log line with ``t``, ``step`` and one metric.

    Args:
        path: the file.

    Attributes:
        more: whether the last `poll` left records unread.
        incomplete: bytes at the end of the file that are no whole record, as the last `poll` found it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.more = False
        self.incomplete = 0
        self._offset = 0

    def poll(self) -> list[dict[str, Any]]:
        """The scalars of the records completed since the last call; `CHUNK` bytes at a time, or one longer record."""
        lines: list[dict[str, Any]] = []
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(CHUNK)
                at = 0
                while at + _HEADER <= len(data):
                    end = at + _HEADER + _length(data, at) + _FOOTER
                    if end > len(data):
                        break
                    lines += scalars(data[at + _HEADER : end - _FOOTER])
                    at = end
                if at == 0 and len(data) == CHUNK:
                    at = self._long_record(file, _length(data, 0), lines)
        except OSError:
            return lines
        self._offset += at
        self.more = len(data) == CHUNK and at > 0
        self.incomplete = 0 if self.more else len(data) - at
        return lines

    def _long_record(self, file: BinaryIO, length: int, lines: list[dict[str, Any]]) -> int:
        """Read or skip a record longer than a chunk, such as an image or a graph; return its size, 0 if incomplete."""
        whole = _HEADER + length + _FOOTER
        if self._offset + whole > os.fstat(file.fileno()).st_size:
            return 0
        if length <= _LONGEST:
            file.seek(self._offset + _HEADER)
            lines += scalars(file.read(length))
        return whole


def _length(data: bytes, at: int) -> int:
    """The length of the data of the record that begins at an offset."""
    return int.from_bytes(data[at : at + 8], "little")


def scalars(event: bytes) -> list[dict[str, Any]]:
    """The scalars of one serialised ``Event``; a record that is none gives an empty list."""
    wall_time, step = 0.0, 0
    values: list[tuple[str, float]] = []
    try:
        for field, kind, value in _fields(event):
            if field == 1 and kind == _FIXED64:
                (wall_time,) = struct.unpack("<d", value)
            elif field == 2 and kind == _VARINT:  # noqa: PLR2004 - Event.step
                step = value
            elif field == 5 and kind == _BYTES:  # noqa: PLR2004 - Event.summary
                values += [
                    scalar
                    for number, inner, part in _fields(value)
                    if number == 1 and inner == _BYTES and (scalar := _scalar(part)) is not None
                ]
    except (IndexError, ValueError, struct.error):
        return []
    return [{"t": wall_time, "step": step, tag: value} for tag, value in values]


def _scalar(data: bytes) -> tuple[str, float] | None:
    """(tag, value) of a ``Summary.Value``; None when it is not a scalar."""
    tag, value = "", None
    for field, kind, part in _fields(data):
        if field == 1 and kind == _BYTES:
            tag = part.decode("utf-8", "replace")
        elif field == 2 and kind == _FIXED32:  # noqa: PLR2004 - Summary.Value.simple_value
            (value,) = struct.unpack("<f", part)
        elif field == 8 and kind == _BYTES:  # noqa: PLR2004 - Summary.Value.tensor
            value = _tensor(part)
    return (tag, value) if tag and value is not None else None


def _tensor(data: bytes) -> float | None:
    """The value of a ``TensorProto`` that holds one float; None for any other."""
    for field, kind, part in _fields(data):
        if field == 5 and kind == _BYTES and len(part) == _EMBEDDED:  # noqa: PLR2004 - TensorProto.float_val, packed
            return float(struct.unpack("<f", part)[0])
        if field == 5 and kind == _FIXED32:  # noqa: PLR2004 - the same, unpacked
            return float(struct.unpack("<f", part)[0])
        if field == 4 and kind == _BYTES and len(part) == _EMBEDDED:  # noqa: PLR2004 - TensorProto.tensor_content
            return float(struct.unpack("<f", part)[0])
    return None


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """(field number, wire type, value) of each field of a protocol buffer message.

    Raises:
        ValueError: it has a wire type that is not in use any more, or a number too long.
        IndexError: it is cut off.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value: Any
            value, at = _varint(data, at)
        elif kind == _FIXED64:
            value, at = data[at : at + 8], at + 8
        elif kind == _FIXED32:
            value, at = data[at : at + 4], at + 4
        elif kind == _BYTES:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            raise ValueError(f"wire type {kind}")
        yield key >> 3, kind, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The variable-length integer at an offset, seven bits a byte, and the offset behind it.

    Raises:
        ValueError: it has more than 64 bits, in ten bytes. Of a damaged file a whole chunk may be one number otherwise,
            and takes time by the square of its length.
        IndexError: it is cut off.
    """
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return value, at
    raise ValueError("a number of more than 64 bits")
