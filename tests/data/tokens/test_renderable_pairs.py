"""Pairs that a model's chat template refuses: counted by the scan, left out by the worker."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import LoadedConfig
from dpo_tui.data.pairs.pair import Pair
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.source import Source
from dpo_tui.data.tokens.renderable_pairs import renderable_pairs
from dpo_tui.errors import DataError
from dpo_tui.start.prepare import prepare
from tests.support.data_files import assistant, row, user, write_lines
from tests.support.strict_template import STRICT, conversation, with_system

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def strict_model(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with a template that takes only users and assistants in turn."""
    folder = tmp_path / "strict"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text(STRICT, encoding="utf-8")
    return folder


def twice_user(number: int) -> dict[str, Any]:
    return conversation([user("one"), user(f"two {number}")], number)


def config_for(model: Path, data: Path, **changes: Any) -> Any:
    from tests.support.training import make_config

    return make_config(model, data, max_seq_length=96, max_steps=1, sample_prompts=2, **changes)


def test_training_leaves_out_exactly_the_pairs_that_the_template_refuses(tmp_path: Path, strict_model: Path) -> None:
    """Rows used in the receipt = rows promised, by the scan and by the check before a start."""
    from tests.support.training import lines, train

    records: list[Any] = [row(number) for number in range(12)]
    records[2], records[5], records[9] = with_system(2), twice_user(5), with_system(9)
    records[7] = row(7) | {"chosen": ""}
    records[11] = row(11) | {"prompt": "reset my password please " * 60}
    data = write_lines(tmp_path / "pairs.jsonl", records)

    report = scan(ScanRequest(Source(str(data)), str(strict_model), 96, workers=1), lambda _event: None)
    assert (report.rows, report.usable, report.will_drop) == (12, 11, 4)
    assert "the model's chat template refuses 3 of the pairs: training leaves them out" in report.notes

    config = config_for(strict_model, data)
    prepared = prepare(LoadedConfig(config, None, {}))
    assert (prepared.rows, prepared.usable) == (12, 8)
    assert sorted(problem.row for problem in prepared.dropped) == [3, 6, 8, 10]

    folder = train(config)
    used = json.loads(folder.receipt.read_text())["data"]
    assert used["train"] + used["held_out"] == report.usable - report.will_drop == 7
    assert (used["rows"], used["unusable"], used["too_long"]) == (12, 4, 1)
    warnings = [event for event in lines(folder.events) if event.get("rows") == 4]
    assert len(warnings) == 1
    assert "row 3: the model's chat template refuses it: System role not supported" in warnings[0]["message"]


def test_refused_pairs_of_an_evaluation_file_are_left_out_as_well(tmp_path: Path, strict_model: Path) -> None:
    from dpo_tui.train.trainer.run_datasets import load_datasets

    data = write_lines(tmp_path / "train.jsonl", [row(number) for number in range(4)])
    held_out = write_lines(tmp_path / "eval.jsonl", [row(20), with_system(21), row(22)])
    rows = load_datasets(config_for(strict_model, data, eval_dataset=str(held_out)))
    assert rows.held_out is not None
    assert (len(rows.train), len(rows.held_out)) == (4, 2)
    assert [prompt[0]["role"] for prompt in rows.prompts] == ["user", "user"]


def test_a_dataset_that_the_template_refuses_whole_is_said_so(tmp_path: Path, strict_model: Path) -> None:
    data = write_lines(tmp_path / "pairs.jsonl", [with_system(number) for number in range(3)])
    with pytest.raises(DataError, match=r"refuses every pair: row 1: .*System role not supported"):
        prepare(LoadedConfig(config_for(strict_model, data), None, {}))


def test_a_template_of_the_config_decides_and_not_the_models(tmp_path: Path, strict_model: Path) -> None:
    template = tmp_path / "own.jinja"
    template.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    pairs = [Pair(1, [{"role": "system", "content": "s"}, user("a")], [assistant("b")], [assistant("c")])]
    data = write_lines(tmp_path / "pairs.jsonl", [row()])
    renderable, problems = renderable_pairs(
        pairs, config_for(strict_model, data, chat_template=str(template)), download=False
    )
    assert (renderable, problems) == (pairs, [])


def test_conversations_with_more_than_roles_and_texts_are_each_asked_about(tmp_path: Path, tiny_model: Path) -> None:
    template = tmp_path / "own.jinja"
    template.write_text("{% for m in messages %}{{ 1 // (m.weight | default(1)) }}{{ m.content }}{% endfor %}")
    pairs = [
        Pair(number, [user("a") | {"weight": weight}], [assistant("b")], [assistant("c")])
        for number, weight in enumerate((1, "x", 2), 1)
    ]
    data = write_lines(tmp_path / "pairs.jsonl", [row()])
    renderable, problems = renderable_pairs(
        pairs, config_for(tiny_model, data, chat_template=str(template)), download=False
    )
    assert [pair.row for pair in renderable] == [1, 3]
    assert [problem.row for problem in problems] == [2]


def test_nothing_is_left_out_where_the_tokenizer_is_not_at_hand(tmp_path: Path) -> None:
    pairs = [Pair(1, [user("a")], [assistant("b")], [assistant("c")])]
    data = write_lines(tmp_path / "pairs.jsonl", [row()])
    assert renderable_pairs(pairs, config_for(tmp_path / "nowhere", data), download=False) == (pairs, [])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{% for message in messages %}{{ message.content }", "cannot be read"),
        ("{% for number in range(1000000000) %}x{% endfor %}", "Range too big"),
        ("{{ messages | length // 0 }}", "by zero"),
    ],
)
def test_a_template_that_never_renders_is_refused_before_a_start(
    tmp_path: Path, strict_model: Path, source: str, said: str
) -> None:
    (strict_model / "chat_template.jinja").write_text(source, encoding="utf-8")
    data = write_lines(tmp_path / "pairs.jsonl", [row(number) for number in range(12)])
    with pytest.raises(DataError, match=said) as caught:
        prepare(LoadedConfig(config_for(strict_model, data), None, {}))
    assert "chat_template =" in (caught.value.hint or "")
