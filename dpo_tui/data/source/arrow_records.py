"""Read the records of Parquet and Arrow files, in batches, as JSON would have them as far as it has their types."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

from dpo_tui.data.source.json_lines import Row
from dpo_tui.data.source.row_warnings import RowWarning, finite, not_a_number
from dpo_tui.data.source.table_header import require_different_names
from dpo_tui.errors import DataError

_BATCH_ROWS = 1024
_BATCH_BYTES = 8 << 20
"""Of a record batch whose rows are made at once: they take several times that."""


def row_groups_in(path: Path) -> int:
    """The number of row groups in a Parquet file.

    Raises:
        DataError: the file is damaged.
    """
    return int(_parquet(path).num_row_groups)


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is a damaged Parquet file: {reason}", hint="Copy or download it again.") from error


def arrow_batches(path: Path) -> Iterator[Any]:
    """The record batches of an Arrow file, which are mapped into memory.

    Raises:
        DataError: the file is damaged.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            try:
                reader: Any = pa.ipc.open_stream(source)
            except pa.ArrowInvalid:
                file = pa.ipc.open_file(source)
                reader = (file.get_batch(number) for number in range(file.num_record_batches))
            yield from reader
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is a damaged Arrow file: {reason}", hint="Save the dataset again.") from error


def record_batches(path: Path, start: int, stop: int) -> Iterator[Any]:
    """Record batches of an Arrow file (``stop`` excluded), or those of one row group of a Parquet file, in parts.

    Raises:
        DataError: the file is damaged.
    """
    import pyarrow as pa

    if path.suffix == ".arrow":
        for batch in islice(arrow_batches(path), start, stop):
            yield from _parts(batch)
        return
    try:
        file = _parquet(path)
        group = file.metadata.row_group(start)
        count = _rows_at_once(group.num_rows, group.total_byte_size)
        for batch in file.iter_batches(batch_size=count, row_groups=[start]):
            yield from _parts(batch)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is a damaged Parquet file: {reason}", hint="Copy it again.") from error


def _parts(batch: Any) -> Iterator[Any]:
    """A record batch in parts of so few rows that these can be made at once."""
    count = _rows_at_once(batch.num_rows, batch.nbytes)
    for first in range(0, batch.num_rows, count):
        yield batch.slice(first, count)


def _rows_at_once(count: int, size: int) -> int:
    """How many rows to make at once, of so many that take so many bytes."""
    return max(1, min(_BATCH_ROWS, count * _BATCH_BYTES // max(1, size)))


def rows_in(path: Path, start: int, stop: int) -> int:
    """The number of rows in :func:`record_batches`."""
    if path.suffix == ".arrow":
        return sum(batch.num_rows for batch in record_batches(path, start, stop))
    return int(_parquet(path).metadata.row_group(start).num_rows)


def records(batch: Any, path: Path) -> tuple[list[Row], list[RowWarning]]:
    """The rows of a record batch as other kinds of files have them, and what is doubtful about them.

    Args:
        batch: of :func:`record_batches`.
        path: its file.

    Raises:
        DataError: it has values that Python has not, or two columns of one name.
    """
    import pyarrow as pa

    require_different_names(batch.schema.names, path)

    try:
        found: list[Row] = batch.to_pylist()
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise DataError(f"{path} has values that cannot be read: {error}", hint="Write the file again.") from error
    nested = [field.name for field in batch.schema if pa.types.is_nested(field.type)]
    for row in found if nested else ():
        if isinstance(row, dict):
            row.update((name, _without_absent_keys(row[name])) for name in nested)
    uuids = [field.name for field in batch.schema if "arrow.uuid" in str(field.type)]
    for row in found if uuids else ():
        if isinstance(row, dict):
            row.update((name, _with_uuids_as_text(row[name])) for name in uuids)
    numbers = [field.name for field in batch.schema if "float" in str(field.type) or "double" in str(field.type)]
    return found, list(_without_not_numbers(found, numbers)) if numbers else []


def _without_not_numbers(found: list[Row], columns: list[str]) -> Iterator[RowWarning]:
    for number, row in enumerate(found):
        if isinstance(row, dict):
            named: dict[str, str] = {}
            values = {name: finite(row[name], name, named) for name in columns}
            if named:
                row.update(values)
                yield not_a_number(number, named)


def _with_uuids_as_text(value: Any) -> Any:
    """A value with each UUID as its text, as every other kind of file has them."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, dict):
        return {key: _with_uuids_as_text(one) for key, one in value.items()}
    return [_with_uuids_as_text(one) for one in value] if isinstance(value, list) else value


def _without_absent_keys(value: Any) -> Any:
    """A nested value without the nulls that Arrow adds: its structs have the keys of every row, absent ones as null.

    The file does not say which nulls were written on purpose; those go as well.
    """
    if isinstance(value, dict):
        return {key: _without_absent_keys(one) for key, one in value.items() if one is not None}
    return [_without_absent_keys(one) for one in value] if isinstance(value, list) else value
