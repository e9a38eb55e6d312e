"""A bad row leaves no exception behind that keeps its block: a scan runs without the garbage collector."""

import gc
from typing import Any

import orjson
import pytest

from benchmarks.inspect_data import BAD_ROWS
from dpo_tui.data import load_demonstrations, load_labelled
from dpo_tui.data.checks.registry import checks
from dpo_tui.data.load_pairs import usable_turns
from dpo_tui.data.pairs.pair import Unreadable
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.scan.chunk_scanner import ChunkScanner
from dpo_tui.data.scan.row_search import turns_of
from dpo_tui.data.source.chunks import TextChunk
from dpo_tui.data.source.source import Source
from tests.support.data_files import write_lines

GOOD = {"prompt": "How tall is the tower?", "chosen": "Ten metres, I think.", "rejected": "No idea at all."}
WAYS = [(check, number) for check, ways in BAD_ROWS.items() for number in range(len(ways))]


def exceptions() -> int:
    """How many exceptions are alive; those in reference cycles are, while the garbage collector does not run."""
    return sum(issubclass(type(one), BaseException) for one in gc.get_objects())


@pytest.mark.parametrize(("check", "way"), WAYS)
def test_no_exception_outlives_the_scan_of_its_block(check: str, way: int) -> None:
    lines = [orjson.dumps(GOOD)] * 5
    lines[2] = BAD_ROWS[check][way](GOOD)
    chunk = TextChunk(b"\n".join(lines) + b"\n")
    scanner = ChunkScanner(Recogniser(), checks())
    gc.collect()
    gc.disable()
    try:
        before = exceptions()
        stats = [scanner.scan(chunk) for _ in range(3)]
        assert exceptions() == before
    finally:
        gc.enable()
    bit = checks()[check].bit
    assert [[flags >> bit & 1 for flags in one.flags.tolist()] for one in stats] == [[0, 0, 1, 0, 0]] * 3


def test_the_benchmark_has_bad_rows_of_every_kind_that_training_leaves_out() -> None:
    found_by_scan = {check.id for check in checks().values() if check.is_left_out}
    assert found_by_scan <= BAD_ROWS.keys()


def test_a_reason_that_is_kept_never_gets_a_traceback() -> None:
    kept = Unreadable("bad-json", "not JSON")
    with pytest.raises(Unreadable, match="not JSON") as raised:
        usable_turns(kept, Recogniser())
    assert kept.__traceback__ is None
    assert raised.value.check == "bad-json"
    for row in (kept, {**GOOD, "chosen": ""}, {"question": "?"}):
        reason = turns_of(row, Recogniser())
        assert isinstance(reason, Unreadable)
        assert reason.__traceback__ is reason.__context__ is None


@pytest.mark.parametrize(
    ("load", "row"),
    [
        (load_labelled.load_labelled, {"prompt": "p", "completion": "c", "label": True}),
        (load_labelled.load_labelled, {"prompt": "p", "chosen": "c", "rejected": "r"}),
        (load_demonstrations.load_demonstrations, {"prompt": "p", "completion": "c"}),
    ],
)
def test_loading_rows_keeps_no_exception_either(load: Any, row: dict[str, Any], tmp_path: Any) -> None:
    bad = [{**row, name: ""} for name in row if name != "label"]
    path = write_lines(tmp_path / "rows.jsonl", [*[row] * 9, *bad, None, 3])
    load(Source(str(path)))
    gc.collect()
    gc.disable()
    try:
        before = exceptions()
        loaded = load(Source(str(path)))
        assert exceptions() == before
    finally:
        gc.enable()
    assert len(loaded.dropped) >= 3
