"""Evaluate a run on pairs: its own held-out ones, or any file. TRL computes, with the run's own settings."""

import math
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from peft import set_peft_model_state_dict
from safetensors.torch import load_file

from dpo_tui.config.schema import Config
from dpo_tui.data.changed_data import change_of
from dpo_tui.data.held_out import split_version
from dpo_tui.errors import DataError, TrainingError
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.runs.folder import RunFolder
from dpo_tui.strategies.metric_expectations import PREFERENCE_ACCURACY
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.train.evaluation.generation import prompt_ids
from dpo_tui.train.evaluation.kl import estimate_kl
from dpo_tui.train.model.device import choose_device
from dpo_tui.train.model.load import load_model, load_tokenizer
from dpo_tui.train.model.trained import config_of, result_folder
from dpo_tui.train.tools.json_service import Tell, serve
from dpo_tui.train.trainer.callbacks import RunCallback
from dpo_tui.train.trainer.run_datasets import RunDatasets, load_datasets
from dpo_tui.train.trainer.trainer_registry import build_trainer
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequests


def evaluate(request: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Do one evaluation.

    Args:
        request: ``run`` (folder), ``data`` (a dataset, or None for the held-out pairs), ``kl_prompts`` (answers for
            the KL estimate; 0 leaves it out, as does a strategy without a reference).
        tell: how it goes.

    Returns:
        ``pairs``, ``data``, ``metrics`` under TRL's ``eval_`` names, and ``accuracy_stderr``.

    Raises:
        TrainingError: the run has no result, or a strategy without preferences.
        DataError: there are no pairs to evaluate on.
    """
    folder = RunFolder(Path(request["run"]))
    config = config_of(folder)
    strategy = strategy_of(config)
    if not strategy.has_preference_accuracy:
        raise TrainingError(
            f"run {folder.id} was trained with {strategy.title} on {strategy.data.value}, which has no preference "
            "accuracy to measure",
            hint="dpo-tui judge RUN compares its answers with those of the model it started from",
        )
    result = result_folder(config, folder)
    # One pass over the pairs: nothing pays for itself that is prepared beforehand.
    changes = {"precompute_ref_log_probs": "off", "share_prefix": "off", "kl_prompts": request["kl_prompts"]}
    config = config.model_copy(update={**changes, "report_to": []})
    rows = _rows(config, folder, request["data"])
    device = choose_device(config)
    tell("progress", {"message": f"Loading the model. {device.words}", "done": 0, "total": None})
    tokenizer, _ = load_tokenizer(config)
    with tempfile.TemporaryDirectory() as scratch:
        # The run's own folder belongs to its worker.
        aside = RunFolder(Path(scratch))
        aside.control.mkdir()
        journal, interruption = Journal(aside), StopRequests(aside)
        trainer = build_trainer(
            config,
            aside,
            device,
            model=load_model(config, device),
            tokenizer=tokenizer,
            rows=rows,
            callback=RunCallback(journal, interruption, 1),
            resumes=True,
        )
        _load_result(trainer, config, result)
        tell("progress", {"message": "Evaluating", "done": 0, "total": len(trainer.eval_dataset)})
        metrics = trainer.evaluate()
        estimate = None
        if request["kl_prompts"] and strategy.has_reference:
            tell("progress", {"message": "Estimating KL to the reference", "done": 0, "total": None})
            prompts = [prompt_ids(tokenizer, prompt) for prompt in rows.prompts[: request["kl_prompts"]]]
            estimate = estimate_kl(trainer, tokenizer, prompts, config.kl_max_new_tokens, seed=config.seed)
    if estimate is not None:
        metrics |= {"eval_kl": estimate.mean, "eval_kl_stderr": estimate.stderr, "eval_kl_n": estimate.n}
    pairs = len(trainer.eval_dataset)
    accuracy = metrics[f"eval_{PREFERENCE_ACCURACY}"]
    return {
        "run": folder.id,
        "data": request["data"] or "the run's held-out pairs",
        "pairs": pairs,
        "metrics": {name: value for name, value in metrics.items() if isinstance(value, (int, float))},
        "accuracy_stderr": math.sqrt(accuracy * (1 - accuracy) / pairs),
    }


def _rows(config: Config, folder: RunFolder, data: str | None) -> RunDatasets:
    """The pairs to evaluate on as the held-out part, beside one row to train on, which TRL wants to see."""
    if data is None:
        receipt = read_json(folder.receipt)
        rows = load_datasets(config, version=split_version(receipt))
        if (change := change_of(receipt, config, rows)) is not None:
            raise DataError(
                f"{change.words}, so the pairs that run {folder.id} held out are not known",
                hint=f"Put the data back as it was, or name a file of pairs: dpo-tui eval {folder.id} --data FILE",
            )
        if rows.held_out is None:
            raise DataError("this run held no pairs out", hint="name a file of pairs: dpo-tui eval RUN --data FILE")
        return replace(rows, train=rows.train.select([0]))
    changes = {"dataset": data, "eval_dataset": None, "eval_split": 0.0, "max_samples": None}
    rows = load_datasets(config.model_copy(update=changes))
    return replace(rows, train=rows.train.select([0]), held_out=rows.train)


def _load_result(trainer: Any, config: Config, result: Path) -> None:
    if config.use_lora:
        set_peft_model_state_dict(trainer.model, load_file(result / "adapter_model.safetensors"))
        return
    weights: dict[str, Any] = {}
    for shard in sorted(result.glob("*.safetensors")):
        weights |= load_file(shard)
    # Tied weights are stored once.
    trainer.model.load_state_dict(weights, strict=False)


if __name__ == "__main__":
    sys.exit(serve(evaluate))
