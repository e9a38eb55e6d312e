"""One split of held-out rows for the worker, the judge and the screens, and what happens when the data changes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dpo_tui.cli import cli
from dpo_tui.config.files import LoadedConfig, from_values
from dpo_tui.config.schema import Config
from dpo_tui.config.toml_text import to_toml
from dpo_tui.data.load_split import SPLIT_VERSION, split_demonstrations, split_of, split_version, training_count
from dpo_tui.data.pair_sizes import pair_sizes
from dpo_tui.data.pairs.hold_out_by_prompt import different_prompts, prompt_id, split_by_prompt
from dpo_tui.errors import DataError
from dpo_tui.judging.run_prompts import TRAINED_ON, run_prompts
from dpo_tui.runs import control_requests, store
from dpo_tui.runs.atomic_files import write_json_atomic
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.held_out_record import read_held_out, write_held_out
from dpo_tui.start.prepare import prepare
from dpo_tui.train.trainer.run_datasets import RunDatasets, load_datasets
from dpo_tui.train.worker.failures import describe_failure
from dpo_tui.train.worker.stop_requests import StopRequested, StopRequests
from tests.support.data_files import assistant, pairs_of, row, user, write_lines
from tests.support.strict_template import STRICT, with_system
from tests.support.training import lines, make_config, train

pytestmark = pytest.mark.usefixtures("home")
SEEDS = range(60)


@pytest.fixture
def strict_model(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with a template that refuses system messages."""
    folder = tmp_path / "strict"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text(STRICT, encoding="utf-8")
    return folder


def mixed(path: Path, count: int = 60) -> Path:
    """Pairs of which the strict template refuses a third."""
    return write_lines(path, [with_system(n) if n % 3 == 0 else row(n) for n in range(count)])


def sorted_demonstrations(path: Path, count: int = 40) -> Path:
    return write_lines(
        path, [{"messages": [user(f"topic {n // 10}: {n}"), assistant("thank you")]} for n in range(count)]
    )


def finished(config: Config) -> RunFolder:
    """A run of an earlier version that has a result, and neither receipt nor record."""
    folder = store.create(to_toml(config), name="run", devices=[])
    folder.adapter.mkdir()
    return folder


def ids(prompts: list[list[dict[str, Any]]]) -> set[str]:
    return {prompt_id(prompt) for prompt in prompts}


def held_out_ids(rows: RunDatasets) -> set[str]:
    assert rows.held_out is not None
    return {prompt_id(prompt) for prompt in rows.held_out["prompt"]}


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "run-of-an-earlier-version"])
def test_the_judge_asks_what_the_worker_held_out_whatever_the_template_refuses(
    tmp_path: Path, strict_model: Path, recorded: bool
) -> None:
    data = mixed(tmp_path / "pairs.jsonl")
    for seed in SEEDS:
        config = make_config(strict_model, data, seed=seed, eval_split=0.2)
        worker, folder = load_datasets(config), finished(config)
        if recorded:
            write_held_out(folder, worker.untrained)
        judged = run_prompts(folder, 1000)
        assert judged.held_out
        assert judged.caution == ""
        assert ids(judged.prompts) == held_out_ids(worker)
        assert not ids(judged.prompts) & {prompt_id(prompt) for prompt in worker.train["prompt"]}
        assert all(prompt[0]["role"] == "user" for prompt in judged.prompts), "a refused prompt cannot be rendered"


def test_the_judge_uses_the_results_tokenizer_where_the_model_is_not_here(tmp_path: Path, strict_model: Path) -> None:
    config = make_config(strict_model, mixed(tmp_path / "pairs.jsonl"), eval_split=0.2, seed=3)
    worker = load_datasets(config)
    folder = finished(config.model_copy(update={"model_name": str(tmp_path / "elsewhere")}))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(strict_model / name, folder.adapter / name)
    assert ids(run_prompts(folder, 1000).prompts) == held_out_ids(worker)


def test_prompts_of_an_evaluation_file_that_are_trained_on_are_not_held_out(tmp_path: Path, tiny_model: Path) -> None:
    data = write_lines(tmp_path / "train.jsonl", [row(n) for n in range(6)])
    evaluation = write_lines(tmp_path / "eval.jsonl", [row(n) for n in (4, 5, 6, 7)])
    config = make_config(tiny_model, data, eval_dataset=str(evaluation))
    rows = load_datasets(config)
    assert rows.leaked == 2
    assert set(rows.untrained) == {prompt_id([user(row(n)["prompt"])]) for n in (6, 7)}
    assert len(run_prompts(finished(config), 10).prompts) == 2


def test_a_run_that_held_nothing_out_says_that_its_prompts_were_trained_on(tmp_path: Path, tiny_model: Path) -> None:
    data = write_lines(tmp_path / "pairs.jsonl", [row(n) for n in range(6)])
    found = run_prompts(finished(make_config(tiny_model, data, eval_split=0.0)), 4)
    assert (len(found.prompts), found.held_out, found.caution) == (4, False, TRAINED_ON)


def test_demonstrations_are_held_out_by_prompt_and_not_from_the_top_of_the_file(
    tmp_path: Path, tiny_model: Path
) -> None:
    data = sorted_demonstrations(tmp_path / "sft.jsonl")
    backwards = write_lines(tmp_path / "backwards.jsonl", [json.loads(line) for line in data.open()][::-1])
    config = make_config(tiny_model, data, strategy="sft", eval_split=0.2)
    split = split_demonstrations(config)
    assert len(split.held_out) == 8
    assert {one.row for one in split.held_out} != set(range(1, 9))
    assert len({one.messages[0]["content"].partition(":")[0] for one in split.held_out}) > 1, "of several topics"
    reversed_file = split_demonstrations(config.model_copy(update={"dataset": str(backwards)}))
    assert {str(one.messages) for one in reversed_file.held_out} == {str(one.messages) for one in split.held_out}
    assert [one.row for one in split_demonstrations(config, version=1).held_out] == list(range(1, 9))


def test_plain_texts_are_split_with_their_copies_together(tmp_path: Path, tiny_model: Path) -> None:
    data = write_lines(tmp_path / "text.jsonl", [{"text": f"page {n % 10}"} for n in range(40)])
    split = split_demonstrations(make_config(tiny_model, data, strategy="sft", eval_split=0.2))
    assert len(split.held_out) == 8
    assert not {one.text for one in split.train} & {one.text for one in split.held_out}


def test_a_receipt_without_a_version_means_the_first_split() -> None:
    assert split_version(None) == SPLIT_VERSION
    assert split_version({"data": {}}) == 1
    assert split_version({"split_version": 2}) == 2


def test_a_run_begun_with_the_old_split_is_resumed_and_judged_with_it(tmp_path: Path, tiny_model: Path) -> None:
    """A real run: stopped, its receipt made to be of an earlier version, and resumed."""
    data = sorted_demonstrations(tmp_path / "sft.jsonl")
    config = make_config(tiny_model, data, strategy="sft", eval_split=0.2, max_steps=4, kl_prompts=0, sample_prompts=0)
    folder = stopped(config)
    receipt = json.loads(folder.receipt.read_text())
    assert receipt.pop("split_version") == SPLIT_VERSION
    write_json_atomic(folder.receipt, receipt)
    folder.held_out.unlink()
    train(config, folder)
    assert json.loads(folder.receipt.read_text())["split_version"] == 1
    first = [[user(f"topic 0: {n}")] for n in range(8)]
    record = read_held_out(folder)
    assert record is not None
    assert record.prompts == ids(first)
    assert run_prompts(folder, 20).prompts == first
    folder.held_out.unlink()
    assert run_prompts(folder, 20).prompts == first, "split again as the receipt says"


class _StopAtOnce(StopRequests):
    """Someone asks for a stop as soon as a step is done."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder)
        self.metrics = folder.metrics

    def stop_wanted(self) -> bool:
        return self.metrics.exists() and any("loss" in line for line in lines(self.metrics))


def stopped(config: Config) -> RunFolder:
    """A real run that was asked to stop after its first step."""
    folder = store.create(to_toml(config), name="run", devices=[])
    with pytest.raises(StopRequested):
        train(config, folder, _StopAtOnce(folder))
    assert list(folder.checkpoints.iterdir())
    return folder


def test_a_resume_on_changed_data_is_refused_and_goes_on_when_that_is_accepted(
    tmp_path: Path, tiny_model: Path
) -> None:
    data = write_lines(tmp_path / "pairs.jsonl", [row(n) for n in range(36)])
    config = make_config(tiny_model, data, max_steps=4, eval_split=0.2, kl_prompts=0, sample_prompts=0)
    folder = stopped(config)
    before = json.loads(folder.receipt.read_text())
    earlier = read_held_out(folder)
    assert earlier is not None
    left = [one for one in range(36) if prompt_id([user(row(one)["prompt"])]) not in earlier.prompts]
    still = next(one for one in range(36) if one not in left)
    write_lines(data, [row(n) for n in (still, *left[:17])])

    with pytest.raises(DataError) as refused:
        train(config, folder)
    assert f"sha256 {before['data']['sha256'][:12]}… with 36 usable of 36 rows" in refused.value.message
    assert "with 18 usable of 18 rows" in refused.value.message
    assert "--accept-changed-data" in (refused.value.hint or "")
    assert describe_failure(refused.value).exit_code == 2
    assert json.loads(folder.receipt.read_text()) == before
    refusal = CliRunner().invoke(cli, ["resume", folder.id])
    assert isinstance(refusal.exception, DataError)
    assert before["data"]["sha256"][:12] in refusal.exception.message

    control_requests.accept_changed_data(folder)
    train(config, folder)
    after = json.loads(folder.receipt.read_text())
    (change,) = after["data_changes"]
    assert change["data"] == before["data"]
    assert change["until_step"] in (1, 2)
    assert after["data"]["rows"] == 18
    assert not control_requests.is_requested(folder, control_requests.ACCEPT_CHANGED_DATA)
    assert any("has changed since the run began" in event["message"] for event in lines(folder.events))
    now = read_held_out(folder)
    assert now is not None
    assert after["data"]["held_out"] == 4
    assert now.prompts == {prompt_id([user(row(still)["prompt"])])}, "the others were trained on before"


def test_the_same_file_that_is_read_differently_is_refused_as_well(tmp_path: Path, strict_model: Path) -> None:
    data = mixed(tmp_path / "pairs.jsonl", 24)
    config = make_config(strict_model, data, max_steps=4, kl_prompts=0, sample_prompts=0)
    folder = stopped(config)
    (strict_model / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}\n{% endfor %}")
    with pytest.raises(DataError, match=r"with 16 usable of 24 rows and is .* with 24 usable of 24 rows"):
        train(config, folder)


def test_a_changed_evaluation_file_is_noticed_before_a_worker_starts(tmp_path: Path, tiny_model: Path) -> None:
    data = write_lines(tmp_path / "train.jsonl", [row(n) for n in range(8)])
    evaluation = write_lines(tmp_path / "eval.jsonl", [row(n) for n in range(8, 12)])
    config = make_config(tiny_model, data, eval_dataset=str(evaluation))
    folder, rows = finished(config), load_datasets(config)
    recorded = {"sha256": rows.sha256, "held_out_sha256": rows.held_out_sha256, "rows": 8, "unusable": 0}
    write_json_atomic(folder.receipt, {"data": recorded})
    write_lines(evaluation, [row(n) for n in range(8, 10)])
    refusal = CliRunner().invoke(cli, ["resume", folder.id])
    assert isinstance(refusal.exception, DataError)
    assert refusal.exception.message.startswith(f"run {folder.id}: {evaluation} has changed")


def recorded_run(config: Config) -> RunFolder:
    folder, rows = finished(config), load_datasets(config)
    write_json_atomic(folder.receipt, {"data": {"sha256": rows.sha256}, "split_version": SPLIT_VERSION})
    write_held_out(folder, rows.untrained)
    return folder


def test_the_judge_says_when_the_data_has_changed_since_the_run(tmp_path: Path, tiny_model: Path) -> None:
    data = write_lines(tmp_path / "pairs.jsonl", [row(n) for n in range(40)])
    config = make_config(tiny_model, data, eval_split=0.2)
    folder = recorded_run(config)
    whole = run_prompts(folder, 100)
    write_lines(data, [row(n) for n in range(20)])
    half = run_prompts(folder, 100)
    assert half.held_out
    assert 0 < len(half.prompts) < len(whole.prompts)
    assert ids(half.prompts) < ids(whole.prompts), "no prompt joins that was trained on"
    assert f"{len(half.prompts)} of the 8 prompts that the run held out are still there" in half.caution

    folder.held_out.unlink()
    unknown = run_prompts(folder, 100)
    assert not unknown.held_out
    assert "which prompts were held out is not known" in unknown.caution


def test_the_judge_refuses_when_none_of_the_held_out_prompts_is_left(tmp_path: Path, tiny_model: Path) -> None:
    data = write_lines(tmp_path / "pairs.jsonl", [row(n) for n in range(40)])
    folder = recorded_run(make_config(tiny_model, data, eval_split=0.2))
    write_lines(data, [row(n) for n in range(100, 110)])
    with pytest.raises(DataError, match="none of the 8 prompts"):
        run_prompts(folder, 20)


def test_the_check_before_the_start_and_the_estimate_count_as_the_worker_does(
    tmp_path: Path, strict_model: Path
) -> None:
    config = make_config(strict_model, mixed(tmp_path / "pairs.jsonl"), eval_split=0.2, seed=3)
    worker = load_datasets(config)
    assert worker.held_out is not None
    prepared = prepare(LoadedConfig(config, None, {}))
    assert (prepared.usable, prepared.held_out) == (40, len(worker.held_out))
    sizes = pair_sizes(config, strict_model)
    assert (sizes.rows, sizes.trained) == (40, len(worker.train))


def test_the_count_for_large_data_is_that_of_the_split_when_no_prompt_comes_twice() -> None:
    for count in (1, 2, 3, 10, 19, 50, 101):
        for fraction in (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.9, 0.99):
            config = from_values({"model_name": "m", "dataset": "d", "eval_split": fraction})
            train_part, _ = split_by_prompt(pairs_of([f"prompt {n}" for n in range(count)]), fraction, 0)
            assert training_count(config, count) == len(train_part), (count, fraction)


class _Counted(list[dict[str, Any]]):
    compared = 0

    def __eq__(self, other: object) -> bool:
        type(self).compared += 1
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]


def test_different_prompts_are_found_without_comparing_each_with_every_other() -> None:
    prompts: list[list[dict[str, Any]]] = [_Counted([user(f"{n % 500}")]) for n in range(1000)]
    assert different_prompts(prompts) == [[user(str(n))] for n in range(500)]
    _Counted.compared = 0
    assert len(different_prompts(prompts)) == 500
    assert _Counted.compared <= 1000
    assert len(different_prompts(prompts, 3)) == 3


def test_split_of_reads_what_the_strategy_trains_on(tmp_path: Path, tiny_model: Path) -> None:
    data = sorted_demonstrations(tmp_path / "sft.jsonl")
    split = split_of(make_config(tiny_model, data, strategy="sft", eval_split=0.2), download=False)
    assert (split.total, split.usable, len(split.train), len(split.held_out)) == (40, 40, 32, 8)
