"""Evaluations and checkpoints by epoch, and checkpoints of weights alone."""

import shutil
from pathlib import Path

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.errors import ConfigError, RunError, TrainingError
from dpo_tui.runs.complete_checkpoints import all_checkpoints, step_of
from dpo_tui.start.prepare import resume
from dpo_tui.train.worker.stop_requests import StopRequested, StopRequests
from tests.support.training import lines, losses, make_config, make_run, train

# 32 rows to train on in batches of 8: four steps an epoch.
SMALL = {
    "per_device_train_batch_size": 8, "eval_split": 0.2, "num_train_epochs": 3, "max_steps": None,
    "sample_prompts": 0, "kl_prompts": 0, "save_total_limit": 5,
}  # fmt: skip


def evaluated(path: Path) -> list[int]:
    return [line["step"] for line in lines(path) if "eval_loss" in line]


def test_every_epoch_is_evaluated_and_saved_and_the_best_of_them_is_the_result(
    home: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    by_epoch = {"eval_strategy": "epoch", "save_strategy": "epoch", "save_steps": 100}
    config = make_config(tiny_model, tiny_pairs, **SMALL, **by_epoch, load_best="loss", early_stopping_patience=2)
    folder = train(config)
    assert evaluated(folder.metrics) == [0, 4, 8, 12], "each once, also at the end, where the best are compared"
    assert [step_of(one) for one in all_checkpoints(folder.checkpoints)] == [12, 8, 4]
    evaluations = {line["step"]: line["eval_loss"] for line in lines(folder.metrics) if "eval_loss" in line}
    best = min((4, 8, 12), key=lambda step: evaluations[step])
    receipt = folder.receipt.read_text()
    assert f'"step": {best}' in receipt and '"metric": "eval_loss"' in receipt


def test_patience_counts_epochs(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    """With a rate of almost nothing no epoch is better by accuracy, and the second one in a row ends the training."""
    settings = {"eval_strategy": "epoch", "save_steps": 100, "load_best": "accuracy", "early_stopping_patience": 1}
    folder = train(make_config(tiny_model, tiny_pairs, **SMALL, **settings, learning_rate=1e-12))
    assert evaluated(folder.metrics)[-1] == 8 and "early-stopping" in folder.events.read_text()


def test_a_stop_within_an_epoch_saves_and_does_not_evaluate(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    """Trainer ends an epoch also where a stop has ended it."""
    by_epoch = {"eval_strategy": "epoch", "save_strategy": "epoch", "save_steps": 100}
    folder = make_run(make_config(tiny_model, tiny_pairs, **SMALL, **by_epoch))
    stop = StopRequests(folder)
    real = stop.take_requests
    count = iter(range(100))

    def after_two_steps() -> object:
        if next(count) == 1:
            (folder.control / "stop").touch()
        return real()

    stop.take_requests = after_two_steps  # type: ignore[method-assign, assignment]
    with pytest.raises(StopRequested):
        train(make_config(tiny_model, tiny_pairs, **SMALL, **by_epoch), folder, stop)
    assert evaluated(folder.metrics) == [0]
    assert [step_of(one) for one in all_checkpoints(folder.checkpoints)] == [2]


def test_checkpoints_of_weights_alone_are_not_resumed_while_steps_are_left(
    home: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    config = make_config(tiny_model, tiny_pairs, save_only_model=True, save_total_limit=3, sample_prompts=0)
    folder = train(config)
    newest = folder.checkpoints / "checkpoint-6"
    assert (newest / "adapter_model.safetensors").is_file() and not (newest / "optimizer.pt").exists()
    before = losses(folder)
    shutil.rmtree(folder.adapter)
    train(config, folder)
    assert folder.adapter.is_dir() and losses(folder) == before, "after the last step the weights are enough"

    shutil.rmtree(newest)
    with pytest.raises(TrainingError, match="save_only_model = true"):
        train(config, folder)
    with pytest.raises(RunError) as refused:
        resume(folder)
    assert "holds the weights alone" in refused.value.message and "2 steps are left" in refused.value.message
    assert "model_name" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"eval_strategy": "epoch", "eval_steps": 5}, "eval_steps"),
        ({"save_strategy": "epoch", "save_steps": 5}, "save_steps"),
        ({"eval_strategy": "epoch", "eval_split": 0.0}, "held-out rows"),
        ({"save_only_model": True, "launcher": "slurm", "requeue_limit": 3}, "requeue_limit = 0"),
    ],
)
def test_what_would_be_ignored_or_lost_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        from_values({"model_name": "m", "dataset": "d", **settings})
