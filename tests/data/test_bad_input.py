"""Whatever a file holds, the end is a report or a message for people, never a traceback."""

import gzip
import io
import json
import os
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpo_tui.data.load_pairs import LoadedPairs, load_pairs
from dpo_tui.data.scan.report import Report
from dpo_tui.data.scan.report_text import report_text
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source import archives, chunks, csv_rows, json_lines, json_splitter
from dpo_tui.data.source.json_splitter import Splitter, split
from dpo_tui.data.source.source import Source
from dpo_tui.errors import DataError
from tests.support.data_files import row, rows, write_lines

pytestmark = pytest.mark.usefixtures("home")

# Each example writes and scans a file; how long that takes on a busy machine is nobody's fault.
FUZZ = settings(
    deadline=None,
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def inspected(path: Path) -> Report | None:
    """Read and scan a file; both must agree, or both must refuse with a message."""
    source = Source(str(path))
    loaded: LoadedPairs | None = None
    try:
        loaded = load_pairs(source)
    except DataError as error:
        assert error.message
    try:
        report = scan(ScanRequest(source, workers=1), lambda _event: None)
    except DataError as error:
        assert error.message
        assert loaded is None, error
        return None
    assert loaded is not None
    assert (report.rows, report.usable, report.format) == (loaded.total, len(loaded.pairs), loaded.format)
    text = report_text(report.to_json())
    assert all(sign == "\n" or sign.isprintable() for sign in text)
    json.dumps(report.to_json())
    return report


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
NAMES = st.sampled_from(
    (
        "prompt chosen rejected role content from value conversations messages question answers rank output winner "
        "instruction input label completion system tools score_chosen score_rejected tool_calls type text response_a "
        "response_b"
    ).split()
)
VALUES = st.recursive(
    SCALARS | st.sampled_from(["user", "assistant", "\n\nHuman: a\n\nAssistant: b", "<|im_end|>", "\x1b[31m"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
RECORDS = st.dictionaries(NAMES, VALUES, max_size=6)
COMPLETE = st.fixed_dictionaries({"prompt": VALUES, "chosen": VALUES, "rejected": VALUES}, optional={"system": VALUES})


@FUZZ
@given(st.lists(COMPLETE | RECORDS | VALUES, max_size=6))
def test_any_json_values_end_in_a_report(tmp_path: Path, records: list[Any]) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    inspected(path)
    path.write_text(json.dumps(records), encoding="utf-8")
    inspected(path)


@FUZZ
@given(st.binary(max_size=400), st.sampled_from(["jsonl", "json", "csv", "tsv", "parquet", "arrow", "jsonl.gz", "zst"]))
def test_any_bytes_end_in_a_report(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"data.{suffix}"
    path.write_bytes(data)
    inspected(path)


def parquet_bytes() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet

    out = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows(4)), out)
    return out.getvalue()


LINES = "".join(json.dumps(one) + "\n" for one in rows(4)).encode()
WHOLE = {
    "jsonl": LINES,
    "json": json.dumps(rows(4), indent=1).encode(),
    "csv": b'prompt,chosen,rejected\n"a ""b""",c,d\ne,"f\ng",h\n',
    "jsonl.gz": gzip.compress(LINES, mtime=0),
    "parquet": parquet_bytes(),
}


@FUZZ
@given(
    st.sampled_from(sorted(WHOLE)),
    st.integers(0, 5000),
    st.sampled_from([b"", b"\x00", b'"', b"\\", b"{", b"]", b",", b"\n", b"\xff\xfe", b"\x1f\x8b", b"\xed\xa0\x80"]),
    st.integers(0, 40),
)
def test_a_damaged_file_ends_in_a_report(tmp_path: Path, kind: str, at: int, put: bytes, cut: int) -> None:
    data = WHOLE[kind]
    at %= len(data)
    path = tmp_path / f"data.{kind}"
    path.write_bytes(data[:at] + put + data[at + cut :])
    inspected(path)


@pytest.mark.parametrize("encode", [json.dumps, lambda value: json.dumps(value, indent=2, ensure_ascii=False)])
@FUZZ
@given(st.lists(VALUES, max_size=5), st.integers(1, 50))
def test_an_array_is_cut_where_its_elements_end(encode: Any, values: list[Any], size: int) -> None:
    """The splitter against the standard library, with blocks that end anywhere."""
    data = encode(values).encode()
    blocks = (data[at : at + size] for at in range(0, len(data), size))
    found = [json.loads(part) for batch in split(blocks, Splitter(1)) for part in batch]
    assert found == json.loads(data)


def test_deep_nesting_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    deep = "[" * 10_000 + "]" * 10_000
    path.write_text(f'{json.dumps(row())}\n{{"prompt": {deep}, "chosen": "a", "rejected": "b"}}\n')
    report = inspected(path)
    assert report is not None
    assert [(one.check, one.rows) for one in report.problems if one.severity == "error"] == [("bad-json", [2])]
    (tmp_path / "data.csv").write_text(f'prompt,chosen,rejected\na,b,c\nx,"{deep}",z\n')
    assert inspected(tmp_path / "data.csv") is not None


def test_nul_bytes_and_lone_surrogates_are_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    good = [json.dumps(one).encode() for one in rows(8)]
    bad = [
        b'{"prompt": "a\x00", "chosen": "b", "rejected": "c"}',
        b'{"prompt": "\\ud800", "chosen": "b", "rejected": "c"}',
    ]
    path.write_bytes(b"\n".join([*good, *bad]))
    report = inspected(path)
    assert report is not None
    assert [(one.check, one.rows) for one in report.problems if one.severity == "error"] == [("bad-json", [9, 10])]


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "json", "csv"])
def test_a_line_without_end_costs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """A gigabyte on one line; here the limit is a megabyte, and so is the measure."""
    for module in (chunks, json_splitter, csv_rows, json_lines):
        monkeypatch.setattr(module, "MAX_ROW_BYTES", 1 << 20)
    filler = "x" * (8 << 20)
    endless = json.dumps({"prompt": filler, "chosen": "a", "rejected": "b"})
    if suffix == "json":
        text = "[" + ",".join([json.dumps(row(0)), endless, json.dumps(row(1))]) + "]"
    elif suffix == "csv":
        text = f"prompt,chosen,rejected\na,b,c\n{filler},y,z\nd,e,f\n"
    else:
        text = "\n".join([json.dumps(row(0)), endless, json.dumps(row(1))])
    path = tmp_path / f"data.{suffix}"
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    report = inspected(path)
    assert report is not None
    assert (report.rows, report.usable) == (3, 2)
    assert [(one.check, one.rows) for one in report.problems if one.severity == "error"] == [("bad-json", [2])]


def test_a_file_that_is_one_endless_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MAX_ROW_BYTES", 1 << 20)
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"x" * (4 << 20))
    with pytest.raises(DataError, match=r"longer than|not JSON"):
        load_pairs(Source(str(path)))
    assert inspected(path) is None


def test_an_archive_bomb_is_refused_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "BOMB_BYTES", 1 << 20)
    path = tmp_path / "data.jsonl.gz"
    packer = zlib.compressobj(9, wbits=31)
    path.write_bytes(b"".join(packer.compress(b"\n" * (1 << 20)) for _ in range(8)) + packer.flush())
    with pytest.raises(DataError, match="archive bomb"):
        load_pairs(Source(str(path)))
    assert inspected(path) is None


def test_an_archive_that_breaks_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(one) + "\n" for one in rows(3000)).encode())[:-2000])
    with pytest.raises(DataError, match=r"cut short|damaged"):
        load_pairs(Source(str(path)))
    assert inspected(path) is None


@pytest.mark.parametrize("name", ["folder", "pipe", "device", "socket folder"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "pipe":
        os.mkfifo(path)
    elif name == "device":
        path = Path("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(DataError):
        load_pairs(Source(str(path)))


@pytest.mark.parametrize(
    ("head", "said"),
    [(b"PK\x03\x04", "zip"), (b"%PDF-1.7", "PDF"), (b"\x89PNG\r\n", "picture"), (b"\x7fELF", "program")],
)
def test_other_kinds_of_files_are_called_by_their_name(tmp_path: Path, head: bytes, said: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(head + bytes(range(256)))
    with pytest.raises(DataError, match=said):
        load_pairs(Source(str(path)))


def test_a_csv_with_a_stray_quote_names_the_record(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text('prompt,chosen,rejected\na,b,c\nd,e,f\ng,"h,i\nj,k,l\n')
    report = inspected(path)
    assert report is not None
    assert report.usable == 2
    assert [(one.check, one.rows) for one in report.problems if one.severity == "error"] == [("bad-json", [3])]


def test_a_csv_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("prompt,chosen,chosen,rejected\na,b,c,d\n")
    with pytest.raises(DataError, match="2 columns called chosen"):
        load_pairs(Source(str(path)))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_records_with_two_columns_of_one_name_are_refused(tmp_path: Path, kind: str) -> None:
    """A join in Arrow leaves them, and a record of Python would have the values of the last one."""
    path = tmp_path / f"data.{kind}"
    table = pa.Table.from_arrays([pa.array([text]) for text in "abcd"], ["prompt", "chosen", "chosen", "rejected"])
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    for read in (load_pairs, lambda source: scan(ScanRequest(source), lambda _: None)):
        with pytest.raises(DataError, match="2 columns called chosen"):
            read(Source(str(path)))


@pytest.mark.parametrize("blank", ["", "\n"], ids=["fast", "line by line"])
@pytest.mark.parametrize("array", [False, True], ids=["lines", "array"])
def test_null_where_a_row_should_be_is_a_bad_row(tmp_path: Path, blank: str, *, array: bool) -> None:
    pair = '{"prompt": "a", "chosen": "b", "rejected": "c"}'
    path = tmp_path / "data.json"
    path.write_text(f"[{pair}, null, {pair}]" if array else f"{pair}\nnull\n{pair}\n{blank}")
    report = inspected(path)
    assert report is not None
    assert (report.rows, report.usable) == (3, 2)
    assert [(one.check, one.rows) for one in report.problems if one.severity == "error"] == [("bad-json", [2])]
    assert [(one.row, one.check) for one in load_pairs(Source(str(path))).dropped] == [(2, "bad-json")]


def test_parquet_without_its_footer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    path.write_bytes(WHOLE["parquet"][:-12])
    with pytest.raises(DataError, match="damaged Parquet file"):
        load_pairs(Source(str(path)))


def test_a_file_that_shrinks_while_it_is_read_ends_in_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_lines(tmp_path / "data.jsonl", rows(2000))
    whole = path.stat().st_size
    read, cut = chunks.read_bytes, []

    def shrinking(chunk: chunks.LineChunk) -> bytes:
        if not cut:
            cut.append(chunk)
            os.truncate(path, whole // 2)
        return read(chunk)

    monkeypatch.setattr("dpo_tui.data.scan.chunk_scanner.read_bytes", shrinking)
    report = scan(ScanRequest(Source(str(path)), workers=1), lambda _event: None)
    assert 900 < report.usable < 1100


def test_a_column_for_every_row_does_not_fill_the_memory(tmp_path: Path) -> None:
    from dpo_tui.data.rows.record_to_pairs import Recogniser

    recogniser = Recogniser()
    for number in range(1000):
        recogniser.pairs({**row(number), f"column {number}": 1})
    assert recogniser.bindings_held <= 256


@pytest.mark.parametrize(
    ("name", "cell"), [("data.csv", r'"a \"b\" c"'), ("data.csv", '"a" b'), ("data.tsv", '"Hello," he said')]
)
def test_a_cell_whose_quotes_would_be_dropped_is_no_text_to_train_on(tmp_path: Path, name: str, cell: str) -> None:
    rows_of = [["prompt", "chosen", "rejected"], ["a", "b", "c"], ["d", "e", cell], ["g", '"say ""h"""', 'i "j"']]
    delimiter = "\t" if name.endswith("tsv") else ","
    path = tmp_path / name
    path.write_text("".join(delimiter.join(cells) + "\n" for cells in rows_of))
    loaded = load_pairs(Source(str(path)))
    assert [(one.row, one.message.partition(":")[0]) for one in loaded.dropped] == [(2, "text follows a closing quote")]
    assert [(one.chosen[0]["content"], one.rejected[0]["content"]) for one in loaded.pairs] == [
        ("b", "c"),
        ('say "h"', 'i "j"'),
    ]
    report = inspected(path)
    assert report is not None and report.usable == 2
