"""Chunks that hold their lines are small, since several wait for each process of a scan."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dpo_tui.data.source.chunks import CHUNK_BYTES, STREAM_CHUNK_BYTES, LineChunk, TextChunk, chunks_of, rows
from dpo_tui.data.source.source import data_file

ROWS = [{"prompt": f"p {number}", "chosen": "c" * 500, "rejected": "r" * 500} for number in range(8000)]
LINES = "\n".join(json.dumps(row) for row in ROWS) + "\n"


def packed(folder: Path) -> Path:
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(LINES.encode(), 1))
    return folder / "rows.jsonl.gz"


def array(folder: Path) -> Path:
    (folder / "rows.json").write_text(json.dumps(ROWS))
    return folder / "rows.json"


def table(folder: Path) -> Path:
    lines = [",".join(row.values()) for row in ROWS]
    (folder / "rows.csv").write_text("\n".join(["prompt,chosen,rejected", *lines]) + "\n")
    return folder / "rows.csv"


def other_encoding(folder: Path) -> Path:
    (folder / "rows.jsonl").write_text(LINES, encoding="utf-16")
    return folder / "rows.jsonl"


@pytest.mark.parametrize("make", [packed, array, table, other_encoding])
def test_rows_of_a_stream_come_a_megabyte_at_a_time(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    chunks = list(chunks_of(data_file(make(tmp_path))))
    held = [len(chunk.data) for chunk in chunks if isinstance(chunk, TextChunk)]
    assert len(held) == len(chunks) >= 4
    assert max(held) < 2.2 * STREAM_CHUNK_BYTES < CHUNK_BYTES
    assert [row for chunk in chunks for batch in rows(chunk) for row in batch] == ROWS


def test_a_plain_file_is_divided_into_ranges_of_several_megabytes(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(LINES)
    assert [type(chunk) for chunk in chunks_of(data_file(file))] == [LineChunk] * (-(-len(LINES) // CHUNK_BYTES))
