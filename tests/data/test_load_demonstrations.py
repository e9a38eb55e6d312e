"""Which columns of demonstrations are read; what the others might be is said, as it is for pairs."""

from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import LoadedConfig
from dpo_tui.data.load_demonstrations import load_demonstrations
from dpo_tui.data.source.source import Source
from dpo_tui.start.prepare import prepare
from tests.support.data_files import assistant, user, write_lines
from tests.support.training import make_config

TALK = [user("hello"), assistant("good day")]


def notes_of(folder: Path, *rows: dict[str, Any]) -> list[str]:
    return load_demonstrations(Source(str(write_lines(folder / "rows.jsonl", list(rows))))).notes


@pytest.mark.parametrize(
    ("row", "notes"),
    [
        ({"messages": TALK}, []),
        ({"messages": TALK, "tools": None}, []),
        ({"conversations": TALK, "system": "Be brief."}, ["not used: `system`, perhaps a system message"]),
        ({"instruction": "Add.", "input": "", "output": "2"}, []),
        (
            {"question": "1+1?", "answer": "2", "input": "of a calculator", "weight": 2.0},
            [
                "not used: `weight`, perhaps a weight of the row; every row counts the same in training",
                "not used: `input`, perhaps the prompt or a part of it",
            ],
        ),
        (
            {"prompt": "1+1?", "completion": "2", "images": ["a.png"]},
            ["not used: `images`. Only text is trained: the model does not see them"],
        ),
        (
            {"prompt": "1+1?", "completion": "2", "prefix": "Well,"},
            ["not used: `prefix`, perhaps the beginning of the answer"],
        ),
        (
            {"messages": TALK, "prompt": "hello", "prompt_id": "7", "source": "web"},
            ["not used: `prompt`, perhaps the prompt or a part of it", "not used either: `prompt_id`, `source`"],
        ),
        ({"text": "a page", "url": "x", "score": 3}, ["not used: `score`, perhaps scores", "not used either: `url`"]),
    ],
)
def test_columns_that_no_demonstration_is_read_by_are_named(
    tmp_path: Path, row: dict[str, Any], notes: list[str]
) -> None:
    assert notes_of(tmp_path, row, row) == notes


def test_no_note_names_a_setting_that_demonstrations_do_not_have(tmp_path: Path) -> None:
    columns = {"system": "s", "prefix": "p", "response_b": "b", "margin": 1.0, "question": "q", "winner": "tie"}
    notes = notes_of(tmp_path, {"messages": TALK, **columns})
    assert len(notes) >= 5
    assert not any("_field" in note or "filtered" in note for note in notes)


def test_a_column_that_other_rows_are_read_by_is_not_named(tmp_path: Path) -> None:
    assert notes_of(tmp_path, {"messages": TALK, "text": None}, {"messages": None, "text": "a page"}) == []


def test_pairs_to_imitate_have_the_notes_of_pairs(tmp_path: Path) -> None:
    pair = {"prompt": "1+1?", "chosen": "2", "rejected": "3", "strength": 1.5}
    assert notes_of(tmp_path, pair) == ["not used: `strength`, perhaps how much better an answer is"]


def test_the_check_before_a_start_says_so(home: Path, tiny_model: Path, tmp_path: Path) -> None:
    data = write_lines(
        tmp_path / "rows.jsonl", [{"messages": [user(f"{n}"), assistant("ok")], "system": "x"} for n in range(8)]
    )
    config = make_config(tiny_model, data, strategy="sft")
    prepared = prepare(LoadedConfig(config))
    assert any("`system`, perhaps a system message" in note for note in prepared.data_notes)


def test_answers_that_a_label_calls_bad_are_named_where_they_are_trained_on(tmp_path: Path) -> None:
    rows = [{"messages": TALK, "label": n % 3 > 0} for n in range(9)]
    said = (
        '`label` calls the answer undesirable, and it is trained on like the others; strategy = "kto" tells them apart'
    )
    assert f"{said} (3 rows)" in notes_of(tmp_path, *rows)
    assert not any("undesirable" in note for note in notes_of(tmp_path, *({**row, "label": True} for row in rows)))
