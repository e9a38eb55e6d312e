"""Records of Parquet and Arrow are made a few megabytes at a time, however long they are."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpo_tui.data.source import arrow_records
from dpo_tui.data.source.chunks import RowLimit, chunks_of, rows
from dpo_tui.data.source.source import data_file

ROWS = [{"prompt": f"p {number}", "chosen": "c" * 1000, "rejected": "r" * 1000} for number in range(50)]


def saved(folder: Path, kind: str) -> Path:
    """Fifty rows of two kilobytes in one record batch or row group."""
    path, table = folder / f"rows.{kind}", pa.Table.from_pylist(ROWS)
    if kind == "parquet":
        pq.write_table(table, path, compression="none", use_dictionary=False)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    return path


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_long_rows_are_made_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(arrow_records, "_BATCH_BYTES", 10_000)
    batches = [batch for chunk in chunks_of(data_file(saved(tmp_path, kind))) for batch in rows(chunk)]
    assert {len(batch) for batch in batches[:-1]} == {4}
    assert [row for batch in batches for row in batch] == ROWS


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("most", [1, 4, 7, 50, 60])
def test_a_limit_ends_within_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, most: int) -> None:
    monkeypatch.setattr(arrow_records, "_BATCH_BYTES", 10_000)
    found = [chunk for chunk in RowLimit(most).of(data_file(saved(tmp_path, kind)))]
    assert [row for chunk in found for batch in rows(chunk) for row in batch] == ROWS[:most]
