"""The fast way through JSON lines names the same pairs and problems as the way through single rows."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_tui.data.checks.byte_prefilter import unusual_rows
from dpo_tui.data.checks.registry import checks
from dpo_tui.data.columns.columnar_decoder import ColumnarDecoder, MixedColumnsError
from dpo_tui.data.rows.column_shapes import ColumnMapping
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.scan.pair_batcher import PairBatch, PairBatcher
from dpo_tui.data.source.json_lines import lines_of, parse, parse_block_with_warnings
from dpo_tui.data.source.row_warnings import RowWarning

# Pieces that are clean, that are suspect, and that look suspect in one writing only.
PIECES = ("a", " ", "\n", "\x07", "\x7f", "\x85", "\u202e", "\u2066", "’", "é", "Ж", "中文", "😀", "\\u0007", "\\")
PIECES += ("<|im_end|>", "<s>", "[INST]", "<b>", "[x]", "Human: hi\n\nAssistant: yes", "The answer is 4.", "\ue000")
TEXTS = st.lists(st.sampled_from(PIECES), max_size=5).map("".join)
ROWS = st.fixed_dictionaries(
    {"prompt": TEXTS, "chosen": TEXTS, "rejected": TEXTS},
    optional={
        "id": st.integers() | st.none() | st.lists(TEXTS, max_size=2),
        "tag": TEXTS,
        "status": st.sampled_from(("tie", "swapped", None, 1)),
    },
)
PLAIN_LINES = st.builds(lambda row, ascii_: json.dumps(row, ensure_ascii=ascii_), ROWS, st.booleans())
ODD_LINES = st.sampled_from(
    (
        "",
        "  ",
        '{"prompt": "p", "chosen": "c"}',
        '{"prompt": "p", "chosen": "c", "rejected": 1}',
        '{"prompt": "p", "chosen": "c", "rejected": null}',
        '{"prompt": "p", "chosen": "c", "rejected": "r"}{"prompt": "p", "chosen": "c", "rejected": "r"}',
        '{"prompt": "p", "chosen": "c", "rejected": "\\ud800"}',
        '{"prompt": "p", "prompt": "q", "chosen": "c", "rejected": "r"}',
        '{"prompt": "p", "chosen": "c", "rejected": "r"},',
        '{"pro\\u006dpt": "p", "chosen": "c", "rejected": "r"}\r',
        "{",
        "[1]",
    )
)


def scanned(batch: PairBatch, recogniser: Recogniser) -> dict[str, Any]:
    """Everything a scan takes from some rows, in the order of rows."""
    pairs = batch.pairs
    named: dict[str, list[int]] = {}
    for check in checks().values():
        if check.find_pairs is not None and len(pairs):
            named[check.id] = sorted(pairs.rows[list(check.find_pairs(pairs))].tolist())
    texts = zip(pairs.rows.tolist(), pairs.prompts, pairs.chosens, pairs.rejecteds, strict=True)
    return {
        "pairs": sorted(texts),
        "flags": batch.flags.tolist(),
        "messages": batch.messages,
        "named": named,
        "formats": recogniser.formats,
        "evidence": recogniser.evidence,
        "notes": recogniser.notes,
        "unused": recogniser.columns.unused,
        "lengths": sorted(pairs.prompt_lengths.tolist()),
    }


@settings(deadline=None, max_examples=300)
@given(st.lists(PLAIN_LINES | PLAIN_LINES | PLAIN_LINES | ODD_LINES, min_size=1, max_size=12), st.booleans())
def test_lines_taken_together_give_what_rows_taken_singly_give(lines: list[str], last_break: bool) -> None:
    data = "\n".join(lines).encode() + (b"\n" if last_break or not lines[-1] else b"")
    together, singly = Recogniser(), Recogniser()
    fast = scanned(PairBatcher(together, checks()).from_lines(data), together)
    warnings = [
        RowWarning(number, warning.check, warning.message)
        for number, line in enumerate(lines_of(data))
        for warning in parse_block_with_warnings(line)[1]
    ]
    slow = scanned(PairBatcher(singly, checks()).from_rows(parse(lines_of(data)), warnings), singly)
    assert fast == slow


@settings(deadline=None, max_examples=100)
@given(st.lists(ROWS, min_size=1, max_size=6), st.booleans())
def test_rows_of_the_same_columns_are_decoded_without_dictionaries(rows: list[dict[str, Any]], ascii_: bool) -> None:
    alike = [row for row in rows if row.keys() == rows[0].keys()]
    data = "".join(json.dumps(row, ensure_ascii=ascii_) + "\n" for row in alike).encode()
    recogniser = Recogniser()
    try:
        taken = list(ColumnarDecoder(recogniser).decode(data, unusual_rows(data).ends))
    except MixedColumnsError:
        assert recogniser.only_columns(alike[0]) is None or "id" in alike[0]  # a number beyond 64 bits, say
        return
    for name, columns in zip(("prompt", "chosen", "rejected"), ("prompts", "chosens", "rejecteds"), strict=True):
        assert [text for part in taken for text in getattr(part, columns).texts] == [row[name] for row in alike]


def test_many_rows_are_decoded_in_pieces_and_numbered_on() -> None:
    lines = [json.dumps({"prompt": f"question {n}", "chosen": "x" * 200, "rejected": "y" * 150}) for n in range(3000)]
    lines[2500] = json.dumps({"prompt": "question", "chosen": "\x1b[31m red", "rejected": "same"})
    lines[2600] = json.dumps({"prompt": "question", "chosen": "same", "rejected": "same"})
    recogniser = Recogniser()
    batch = PairBatcher(recogniser, checks()).from_lines("\n".join(lines).encode())
    identical = np.uint32(1 << checks()["identical"].bit)
    assert batch.pairs.rows.tolist() == [n for n in range(3000) if n != 2600]
    assert batch.pairs.prompts[2499:2501] == ["question 2499", "question"]
    assert np.flatnonzero(batch.flags).tolist() == [2600]
    assert batch.flags[2600] == identical
    find = checks()["control-characters"].find_pairs
    assert find is not None
    assert list(find(batch.pairs)) == [2500]
    assert recogniser.formats == Counter({"standard": 3000})


@pytest.mark.parametrize("data", [b'{"a": "b"}\n\n', b'\n{"a": "b"}', b'[{"a": "b"}]', b'{"a":\n"b"}', b"{\n"])
def test_lines_that_do_not_all_begin_as_rows_are_left_to_the_other_way(data: bytes) -> None:
    with pytest.raises(MixedColumnsError):
        list(ColumnarDecoder(Recogniser()).decode(data, unusual_rows(data).ends))


def test_cells_of_a_table_are_never_taken_as_they_are_even_after_lines_of_the_same_columns() -> None:
    """A CSV cell may hold JSON: a folder of JSON lines and CSV shares one recogniser."""
    answer, other = json.dumps(["yes"]), json.dumps(["no"])
    data = json.dumps({"prompt": "is it?", "chosen": answer, "rejected": other}).encode() + b"\n"
    recogniser = Recogniser()
    batcher = PairBatcher(recogniser, checks())
    assert batcher.from_lines(data).pairs.chosens == [answer]
    recogniser.cells = True
    assert batcher.from_lines(data).pairs.chosens == ["yes"]


@pytest.mark.parametrize("space", ["", "\n "])
def test_messages_in_json_text_are_messages_by_columns_and_by_rows(space: str) -> None:
    texts = [space + json.dumps([{"role": "assistant", "content": one}]) for one in ("yes", "no")]
    plain = {"prompt": "is it?", "chosen": "[1] role", "rejected": "b"}
    found = [{"prompt": "is it?", "chosen": texts[0], "rejected": texts[1]}, plain]
    batcher = PairBatcher(Recogniser(), checks())
    lines = "".join(json.dumps(row) + "\n" for row in found).encode()
    for batch in (batcher.from_rows(found), batcher.from_lines(lines)):
        assert sorted(batch.pairs.chosens) == ["[1] role", "yes"]


def test_a_column_that_plays_two_parts_is_left_to_the_other_way() -> None:
    data = b'{"text": "a", "other": "b"}\n'
    recogniser = Recogniser(ColumnMapping("text", "text", "other", None))
    with pytest.raises(MixedColumnsError):
        list(ColumnarDecoder(recogniser).decode(data, unusual_rows(data).ends))
