"""What is said of labelled answers: hints, their own columns, a threshold without ratings, the labels of `eval`."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dpo_tui.cli import cli
from dpo_tui.data.load_labelled import load_labelled
from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.source.source import Source
from dpo_tui.errors import DataError
from tests.support.training import make_config, train


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def labelled(path: Path, labels: list[Any]) -> Path:
    rows = [
        {"prompt": f"question {n}", "completion": f"an answer {n}", "label": label} for n, label in enumerate(labels)
    ]
    return write(path, rows)


@pytest.mark.parametrize("words", [["LABEL_0", "LABEL_1"], ["toxic", "safe"], ["unsafe", "safe"], [1, 2]], ids=str)
def test_no_hint_at_kto_where_kto_refuses_the_labels(tmp_path: Path, words: list[Any]) -> None:
    path = labelled(tmp_path / "rows.jsonl", words * 5)
    with pytest.raises(DataError):
        load_labelled(Source(str(path)))
    with pytest.raises(DataError) as found:
        load_pairs(Source(str(path)))
    said = f"{found.value.message} {found.value.hint}"
    assert "takes these" not in said and "does not take it either" in said
    assert "takes these" not in CliRunner().invoke(cli, ["inspect", str(path)]).output


def test_the_hint_stays_where_kto_takes_them(tmp_path: Path) -> None:
    path = labelled(tmp_path / "rows.jsonl", [True, False] * 5)
    assert len(load_labelled(Source(str(path))).rows) == 10
    with pytest.raises(DataError, match='strategy = "kto" takes these'):
        load_pairs(Source(str(path)))


def test_a_row_without_its_label_is_called_that(tmp_path: Path) -> None:
    path = labelled(tmp_path / "rows.jsonl", [True, False] * 40 + [None])
    said = " ".join(CliRunner().invoke(cli, ["inspect", str(path)]).output.split())
    assert "prompt, answer or label is missing" in said and "chosen or rejected is missing" not in said


def test_a_threshold_that_divides_nothing_is_named(tmp_path: Path) -> None:
    rows = [{"prompt": f"p {n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(10)]
    path = write(tmp_path / "pairs.jsonl", rows)
    assert any("rating_threshold = 3 does nothing" in note for note in load_labelled(_with_threshold(path)).notes)
    assert not any("does nothing" in note for note in load_labelled(Source(str(path))).notes)
    done = CliRunner().invoke(cli, ["inspect", str(path), "--rating-threshold", "3"])
    assert "--rating-threshold 3 does nothing" in done.stderr
    rated = write(tmp_path / "rated.jsonl", [{"prompt": f"p {n}", "response": "a", "rating": n % 5} for n in range(10)])
    assert not any("does nothing" in note for note in load_labelled(_with_threshold(rated)).notes)


def _with_threshold(path: Path) -> Source:
    return Source(str(path), rating_threshold=3)


def test_eval_counts_the_labels_of_what_it_evaluates(home: Path, tiny_model: Path, tmp_path: Path) -> None:
    from dpo_tui.train.tools.evaluate_run import evaluate

    settings = {"strategy": "kto", "per_device_train_batch_size": 4, "kl_prompts": 0, "sample_prompts": 0}
    data = labelled(tmp_path / "train.jsonl", [True, False, True, False] * 10)
    folder = train(make_config(tiny_model, data, **settings, eval_split=0.2, max_steps=1))
    held_out = labelled(tmp_path / "other.jsonl", [True] * 7 + [False] * 2)
    for given, said in ((None, "of 8"), (str(held_out), "labels: 7 desirable and 2 undesirable answers")):
        found = evaluate({"run": str(folder.path), "data": given, "kl_prompts": 0}, lambda kind, message: None)
        notes = [note for note in found["notes"] if note.startswith("labels: ")]
        assert len(notes) == 1
        if given is None:
            numbers = [int(word) for word in notes[0].split() if word.isdigit()]
            assert sum(numbers) == found["pairs"] == 8, said
        else:
            assert notes == [said]
