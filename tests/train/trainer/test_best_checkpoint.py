"""``load_best``: the result is the best evaluated checkpoint, after a stop, a resume, pruning and damage too."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from dpo_tui.cli.run_summary_text import result_text
from dpo_tui.config.files import from_values
from dpo_tui.config.problems import InvalidConfigError
from dpo_tui.config.schema import Config
from dpo_tui.errors import DataError
from dpo_tui.runs import control_requests
from dpo_tui.runs.comparison import compare
from dpo_tui.runs.complete_checkpoints import all_checkpoints, step_of
from dpo_tui.runs.folder import RunFolder
from dpo_tui.start.prepare import prepare
from dpo_tui.train.trainer import best_checkpoint, callbacks
from dpo_tui.train.trainer.best_checkpoint import BestSelection
from dpo_tui.train.worker.stop_requests import StopRequested
from tests.support.training import lines, loaded, losses, make_config, make_run, train

# What the held-out loss is made to be: real training of a few steps falls or rises as it likes.
LOSSES = {1: 0.69, 2: 0.60, 3: 0.50, 4: 0.55, 5: 0.58, 6: 0.57, 7: 0.60, 8: 0.61}


def config_of(model: Path, pairs: Path, **changes: Any) -> Config:
    """Eight steps, each evaluated; only every 50th would be saved by itself."""
    values = {
        "load_best": "loss",
        "eval_split": 0.2,
        "eval_steps": 1,
        "max_steps": 8,
        "save_steps": 50,
        "save_total_limit": 1,
        "learning_rate": 1e-2,
        "kl_prompts": 0,
        "sample_prompts": 1,
    }
    return make_config(model, pairs, **(values | changes))


@pytest.fixture
def held_out_losses(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Replaces the held-out loss that Trainer has logged, by step, before anything compares it."""
    values = dict(LOSSES)
    original = callbacks.RunCallback.on_evaluate

    def on_evaluate(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        for line in state.log_history:
            if "eval_loss" in line and line["step"] in values:
                line["eval_loss"] = values[line["step"]]
        return original(self, args, state, control, **kwargs)

    monkeypatch.setattr(callbacks.RunCallback, "on_evaluate", on_evaluate)
    return values


def weights(folder: Path) -> dict[str, Any]:
    return load_file(next(iter(sorted(folder.glob("*.safetensors")))))


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def messages(folder: RunFolder, kind: str = "note") -> list[str]:
    return [event["message"] for event in lines(folder.events) if event["kind"] == kind]


def best_of(folder: RunFolder) -> dict[str, Any]:
    best: dict[str, Any] = json.loads(folder.receipt.read_text())["results"]["best"]
    return best


def checkpoints(folder: RunFolder) -> list[int]:
    return [step_of(path) for path in all_checkpoints(folder.checkpoints)]


def stop_after(folder: RunFolder, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for a stop once a step is trained."""
    original = callbacks.RunCallback.on_step_begin

    def on_step_begin(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if state.global_step == step - 1:
            control_requests.request_stop(folder)
        return original(self, args, state, control, **kwargs)

    monkeypatch.setattr(callbacks.RunCallback, "on_step_begin", on_step_begin)


@pytest.mark.parametrize("use_lora", [True, False], ids=["lora", "full"])
def test_the_result_is_the_checkpoint_of_the_best_step_and_not_the_last(
    home: Path, tiny_model: Path, tiny_pairs: Path, held_out_losses: dict[int, float], use_lora: bool
) -> None:
    folder = train(config_of(tiny_model, tiny_pairs, use_lora=use_lora))
    result = folder.adapter if use_lora else folder.merged
    assert checkpoints(folder) == [8, 3], "the newest, and the best, although one is kept"
    assert same(result, folder.checkpoints / "checkpoint-3")
    assert not same(result, folder.checkpoints / "checkpoint-8")
    assert set(losses(folder)) == set(range(1, 9))
    assert best_of(folder) == {
        "step": 3,
        "metric": "eval_loss",
        "value": 0.50,
        "last_step": 8,
        "evaluations": 8,
        "ended": "",
    }


def test_receipt_event_card_status_samples_and_comparison_name_the_step(
    home: Path, tiny_model: Path, tiny_pairs: Path, held_out_losses: dict[int, float]
) -> None:
    folder = train(config_of(tiny_model, tiny_pairs))
    results = json.loads(folder.receipt.read_text())["results"]
    assert (results["steps"], results["metrics"]["step"], results["metrics"]["eval_loss"]) == (8, 3, 0.50)
    assert results["metrics"]["loss"] == pytest.approx(losses(folder)[3])
    assert "train_runtime" in results["metrics"]
    said = "The result is the weights of step 3, restored, and not those of step 8: eval_loss 0.5 is the best of 8"
    assert any(message.startswith(said) for message in messages(folder))
    card = folder.model_card.read_text()
    assert "The weights are those of step 3 of 8, the best of 8 evaluations by `eval_loss` (0.5)." in card
    assert "value at step 3" in card
    assert "It is that of step 3 of 8, the best of 8 evaluations by eval_loss (0.5)." in result_text(folder.path)
    assert [line["step"] for line in lines(folder.samples) if line["when"] == "after"] == [3]
    assert compare([folder, folder]).results["eval_loss"] == [0.50, 0.50]


def test_patience_ends_the_run_after_so_many_evaluations_without_a_better_one(
    home: Path, tiny_model: Path, tiny_pairs: Path, held_out_losses: dict[int, float]
) -> None:
    folder = train(config_of(tiny_model, tiny_pairs, early_stopping_patience=2))
    assert set(losses(folder)) == set(range(1, 6))
    assert same(folder.adapter, folder.checkpoints / "checkpoint-3")
    ended = "Training ends at step 5: 2 evaluations with no eval_loss better than step 3 (early_stopping_patience = 2)"
    assert ended in messages(folder)
    assert (best_of(folder)["ended"], best_of(folder)["last_step"]) == (ended, 5)
    assert ended in result_text(folder.path) and ended in folder.model_card.read_text()
    assert json.loads(folder.progress.read_text())["phase"] == "done"


def test_the_last_step_is_evaluated_and_may_be_the_best(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    folder = train(config_of(tiny_model, tiny_pairs, eval_steps=3))
    evaluated = [line["step"] for line in lines(folder.metrics) if "eval_loss" in line]
    assert evaluated == [0, 3, 6, 8]
    found = {line["step"]: line["eval_loss"] for line in lines(folder.metrics) if "eval_loss" in line and line["step"]}
    assert best_of(folder)["step"] == min(found, key=lambda step: found[step])


@pytest.mark.usefixtures("home", "held_out_losses")
@pytest.mark.parametrize("stopped", [3, 4, 6], ids=["at the best", "after it", "long after it"])
def test_a_resume_knows_which_was_the_best(
    tiny_model: Path,
    tiny_pairs: Path,
    monkeypatch: pytest.MonkeyPatch,
    stopped: int,
) -> None:
    """A stop saves without an evaluation, which the resumed training does not make up for."""
    config = config_of(tiny_model, tiny_pairs, early_stopping_patience=4)
    whole, folder = train(config), make_run(config)
    with monkeypatch.context() as patch, pytest.raises(StopRequested):
        stop_after(folder, stopped, patch)
        train(config, folder)
    assert not folder.adapter.exists()
    control_requests.clear(folder, control_requests.STOP)
    train(config, folder)
    # Step 3 itself was not evaluated where the stop came in it.
    best = 4 if stopped == 3 else 3
    assert best_of(folder)["step"] == best
    assert same(folder.adapter, folder.checkpoints / f"checkpoint-{best}")
    if stopped != 3:
        assert same(folder.adapter, whole.adapter)
    assert set(losses(folder)) == set(range(1, 9))


def test_a_run_killed_before_its_result_restores_the_best_and_trains_no_further(
    home: Path, tiny_model: Path, tiny_pairs: Path, held_out_losses: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tiny_model, tiny_pairs, early_stopping_patience=2)
    folder = make_run(config)

    def kill(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("dpo_tui.train.run_training.restore_best", kill)
        train(config, folder)
    train(config, folder)
    assert set(losses(folder)) == set(range(1, 6))
    assert (best_of(folder)["step"], best_of(folder)["ended"][:25]) == (3, "Training ends at step 5: ")
    assert same(folder.adapter, folder.checkpoints / "checkpoint-3")


@pytest.mark.usefixtures("home", "held_out_losses")
@pytest.mark.parametrize("damage", ["damaged", "gone"])
def test_a_best_checkpoint_that_is_not_whole_gives_way_to_the_next_best_in_words(
    tiny_model: Path,
    tiny_pairs: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
) -> None:
    original = best_checkpoint.restore_best

    def damaged_first(trainer: Any, selection: Any, folder: Path, journal: Any) -> Any:
        if damage == "damaged":
            with (folder / "checkpoint-3" / "adapter_model.safetensors").open("r+b") as file:
                file.write(bytes(64))
        else:
            (folder / "checkpoint-3").rename(folder / "elsewhere")
        return original(trainer, selection, folder, journal)

    monkeypatch.setattr("dpo_tui.train.run_training.restore_best", damaged_first)
    folder = train(config_of(tiny_model, tiny_pairs, save_steps=1, save_total_limit=9))
    assert best_of(folder)["step"] == 4
    assert same(folder.adapter, folder.checkpoints / "checkpoint-4")
    said = "is damaged (adapter_model.safetensors)" if damage == "damaged" else "is gone"
    assert (
        f"The weights of step 3 cannot be restored: checkpoint-3 {said}. The best of those that are left is taken"
        in (messages(folder, "warning"))
    )


def test_without_a_finite_value_the_last_weights_stay_and_it_is_said(
    home: Path, tiny_model: Path, tiny_pairs: Path, held_out_losses: dict[int, float]
) -> None:
    held_out_losses |= dict.fromkeys(range(1, 9), float("nan"))
    folder = train(config_of(tiny_model, tiny_pairs, save_steps=4))
    assert same(folder.adapter, folder.checkpoints / "checkpoint-8")
    said = "No evaluation had a finite eval_loss: the weights after the last step stay"
    assert said in messages(folder, "warning")
    assert "best" not in json.loads(folder.receipt.read_text())["results"]


def history(values: dict[int, float]) -> list[dict[str, Any]]:
    return [{"step": step, "eval_loss": 1.0, "eval_rewards/accuracies": value} for step, value in values.items()]


def test_of_equal_evaluations_the_earlier_is_the_best_and_waiting_counts_the_others() -> None:
    selection = BestSelection("eval_rewards/accuracies", higher_is_better=True, patience=2)
    seen = history({0: 0.95, 1: 0.5, 2: 0.9, 3: 0.9})
    assert selection.best_step(seen) == 2
    assert selection.ends(seen) == ""
    assert selection.better_before_training(seen) == 0.95
    assert selection.better_before_training(history({0: 0.0, 1: 0.5})) is None
    assert "2 evaluations" in selection.ends([*seen, *history({4: float("nan")})])
    assert selection.ends([*seen, *history({4: 0.91})]) == ""


@pytest.mark.parametrize(
    ("changes", "key", "said"),
    [
        ({"strategy": "sft", "load_best": "accuracy"}, "load_best", "strategy = sft has no accuracy; use loss"),
        ({"strategy": "sft", "load_best": "margin"}, "load_best", "strategy = sft has no margin; use loss"),
        ({"strategy": "kto", "load_best": "accuracy"}, "load_best", "use margin or loss"),
        ({"load_best": "loss", "eval_split": 0.0}, "load_best", "needs held-out rows"),
        ({"early_stopping_patience": 2}, "early_stopping_patience", "set load_best"),
    ],
)
def test_what_could_not_be_chosen_is_refused(changes: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(InvalidConfigError) as refused:
        from_values({"model_name": "m", "dataset": "d"} | changes)
    assert [problem.key for problem in refused.value.problems] == [key]
    assert said in str(refused.value)


@pytest.mark.parametrize("strategy", ["dpo", "kto", "orpo", "simpo", "cpo", "sft"])
def test_what_can_be_chosen_is_not_refused(strategy: str) -> None:
    choices = {"kto": ["loss", "margin"], "sft": ["loss"]}.get(strategy, ["loss", "accuracy", "margin"])
    for choice in choices:
        values = {"model_name": "m", "dataset": "d", "strategy": strategy, "load_best": choice}
        micro = {"per_device_train_batch_size": 2}
        assert BestSelection.of(from_values(values | micro | {"early_stopping_patience": 1})) is not None


CHOICES = [
    *((strategy, choice) for strategy in ("dpo", "simpo", "orpo", "cpo") for choice in ("loss", "accuracy", "margin")),
    *(("kto", choice) for choice in ("loss", "margin")),
    ("sft", "loss"),
]


@pytest.mark.slow
@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(("strategy", "choice"), CHOICES)
def test_every_strategy_ends_by_patience_and_keeps_its_best_by_each_of_its_metrics(
    tiny_model: Path, tiny_pairs: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, choice: str
) -> None:
    """The second of four evaluations is the best; two without a better one end the training at the fourth step."""
    config = config_of(
        tiny_model,
        tiny_pairs,
        strategy=strategy,
        load_best=choice,
        early_stopping_patience=2,
        per_device_train_batch_size=2,
        sample_prompts=0,
    )
    selection = BestSelection.of(config)
    assert selection is not None
    metric, values = selection.metric, {1: 0.69, 2: 0.40, 3: 0.50, 4: 0.45}
    sign = 1.0 if choice == "loss" else -1.0
    original = callbacks.RunCallback.on_evaluate
    measured: dict[int, float] = {}

    def on_evaluate(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        for line in state.log_history:
            if "eval_loss" in line and line["step"] in values and line["step"] not in measured:
                measured[line["step"]] = line[metric]
                line[metric] = sign * values[line["step"]]
        return original(self, args, state, control, **kwargs)

    monkeypatch.setattr(callbacks.RunCallback, "on_evaluate", on_evaluate)
    folder = train(config)
    assert measured.keys() == values.keys(), "the strategy logs the metric at every evaluation"
    best = best_of(folder)
    assert (best["step"], best["metric"], best["last_step"]) == (2, metric, 4)
    assert best["value"] == pytest.approx(sign * 0.40)
    assert "2 evaluations with no" in best["ended"]
    assert same(folder.adapter, folder.checkpoints / "checkpoint-2")
    assert not same(folder.adapter, folder.checkpoints / "checkpoint-4")


def test_data_of_which_nothing_is_held_out_is_refused_before_a_run_is_made(
    home: Path, tiny_model: Path, tmp_path: Path
) -> None:
    pairs = tmp_path / "one.jsonl"
    pairs.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n")
    with pytest.raises(DataError, match="none is held out"):
        prepare(loaded(tmp_path, tiny_model, pairs, load_best="loss"))
