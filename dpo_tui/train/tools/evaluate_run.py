"""Child that evaluates a run on its held-out pairs or on any other pairs, with TRL and the run's settings."""

import math
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpo_tui.config.schema import Config
from dpo_tui.data.changed_data import change_of
from dpo_tui.data.label_balance import LABELS, LabelBalance
from dpo_tui.data.load_split import split_version
from dpo_tui.data.source.evaluation_source import evaluation_source, is_same_location
from dpo_tui.data.source.source import FILE_SETTINGS
from dpo_tui.errors import DataError, TrainingError
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.runs.folder import RunFolder
from dpo_tui.strategies.metric_expectations import PREFERENCE_ACCURACY
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.train.evaluation.generation import prompt_token_ids
from dpo_tui.train.evaluation.kl import estimate_kl
from dpo_tui.train.model.checked_loading import load_result_into
from dpo_tui.train.model.device import choose_device
from dpo_tui.train.model.load import load_model, load_tokenizer
from dpo_tui.train.model.loaded_run import config_of, result_folder
from dpo_tui.train.tools.json_service import Send, serve
from dpo_tui.train.trainer.callbacks import RunCallback
from dpo_tui.train.trainer.run_datasets import RunDatasets, load_datasets
from dpo_tui.train.trainer.trainer_registry import build_trainer
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequests


def evaluate(request: dict[str, Any], send: Send) -> dict[str, Any]:
    """Handle a request for an evaluation.

    Args:
        request: ``run`` (folder), ``data`` (a dataset, or None for the held-out pairs), ``subset`` and ``split`` of
            that dataset and how it is read (:data:`FILE_SETTINGS`), ``kl_prompts`` (answers for the KL estimate; 0
            leaves it out, as does a strategy without a reference).
        send: receives progress.

    Returns:
        ``run``, ``pairs`` (their number, of whatever form), ``examples`` (what they are), ``data``, ``notes`` on the
        data, ``metrics`` under TRL's ``eval_`` names, and ``accuracy_stderr``, the standard error of a proportion:
        √(p(1 − p)/n); None for a strategy without an accuracy.

    Raises:
        TrainingError: the run has no result, its result is not whole, or its strategy has no preference accuracy.
        DataError: there are no pairs to evaluate on.
    """
    folder = RunFolder(Path(request["run"]))
    config = config_of(folder)
    strategy = strategy_of(config)
    if not strategy.tells_answers_apart:
        raise TrainingError(
            f"run {folder.id} was trained with {strategy.title} on {strategy.data.value}, which has no preference "
            "accuracy to measure",
            hint="dpo-tui judge RUN compares its answers with those of the model it started from",
        )
    result = result_folder(config, folder)
    # Each pair is seen once: reference scores and shared prompts would cost more to prepare than they save.
    changes = {"precompute_ref_log_probs": "off", "share_prefix": "off", "kl_prompts": request["kl_prompts"]}
    config = config.model_copy(update={**changes, "report_to": []})
    rows = _rows(config, folder, request)
    device = choose_device(config)
    send("progress", {"message": f"Loading the model. {device.description}", "done": 0, "total": None})
    tokenizer, _ = load_tokenizer(config)
    with tempfile.TemporaryDirectory() as scratch:
        # A run's folder has one writer, its worker; the trainer here writes elsewhere.
        scratch_folder = RunFolder(Path(scratch))
        scratch_folder.control.mkdir()
        journal, stop_requests = Journal(scratch_folder), StopRequests(scratch_folder)
        trainer = build_trainer(
            config,
            scratch_folder,
            device,
            model=load_model(config, device, result),
            tokenizer=tokenizer,
            rows=rows,
            callback=RunCallback(journal, stop_requests, 1),
            resumes=True,
        )
        # Into the policy alone: the reference stays the model that the run started from.
        load_result_into(trainer.model, result)
        send("progress", {"message": "Evaluating", "done": 0, "total": len(trainer.eval_dataset)})
        metrics = trainer.evaluate()
        estimate = None
        if request["kl_prompts"] and strategy.has_reference:
            send("progress", {"message": "Estimating KL to the reference", "done": 0, "total": None})
            with_tools = zip(rows.prompts, rows.prompt_tools, strict=True)
            prompts = [prompt_token_ids(tokenizer, *one) for one in with_tools][: request["kl_prompts"]]
            estimate = estimate_kl(trainer, tokenizer, prompts, config.kl_max_new_tokens, seed=config.seed)
    if estimate is not None:
        metrics |= {"eval_kl": estimate.mean, "eval_kl_stderr": estimate.stderr, "eval_kl_n": estimate.n}
    pairs = len(trainer.eval_dataset)
    accuracy = metrics.get(f"eval_{PREFERENCE_ACCURACY}")
    return {
        "run": folder.id,
        "data": request["data"] or "the run's held-out pairs",
        "pairs": pairs,
        "notes": _notes(rows),
        "metrics": {name: value for name, value in metrics.items() if isinstance(value, (int, float))},
        "examples": strategy.data.value,
        "accuracy_stderr": None if accuracy is None else math.sqrt(accuracy * (1 - accuracy) / pairs),
    }


def _notes(rows: RunDatasets) -> list[str]:
    """The notes on the data, with the labels of the rows that are evaluated in place of those that were trained."""
    notes = [note for note in rows.notes if not note.startswith(LABELS)]
    if rows.held_out is None or "label" not in rows.held_out.column_names:
        return notes
    labels = rows.held_out["label"]
    return [*notes, LabelBalance(sum(labels), len(labels) - sum(labels)).count_sentence]


def _rows(config: Config, folder: RunFolder, request: dict[str, Any]) -> RunDatasets:
    """Return the pairs to evaluate on as the held-out rows, and one training row, without which TRL has no trainer."""
    data = request["data"]
    if data is None:
        receipt = read_json(folder.receipt)
        rows = load_datasets(config, version=split_version(receipt))
        if (change := change_of(receipt, config, rows)) is not None:
            raise DataError(
                f"{change.message}, so the pairs that run {folder.id} held out are not known",
                hint=f"Put the data back as it was, or name a file of pairs: dpo-tui eval {folder.id} --data FILE",
            )
        if rows.held_out is None:
            raise DataError("this run held no pairs out", hint="name a file of pairs: dpo-tui eval RUN --data FILE")
        return replace(rows, train=rows.train.select([0]))
    named = {"eval_dataset_config": request.get("subset"), "eval_dataset_split": request.get("split")}
    separate = evaluation_source(config.model_copy(update={"eval_dataset": data, **named}))
    assert separate is not None  # noqa: S101 (eval_dataset is set)
    found = separate.source
    changes: dict[str, Any] = {"dataset": data, "dataset_config": found.subset, "dataset_split": found.split}
    changes |= {"max_samples": None, "dataset_weights": None, "eval_split": 0.0}
    changes |= dict.fromkeys(("eval_dataset", "eval_dataset_config", "eval_dataset_split"))
    given = {name: request[name] for name in FILE_SETTINGS if request.get(name) is not None}
    others = () if any(is_same_location(data, one) for one in config.datasets) else FILE_SETTINGS
    changes |= dict.fromkeys(others) | given
    rows = load_datasets(config.model_copy(update=changes))
    own = [f"{name} = {getattr(config, name)!r}" for name in others if getattr(config, name) and name not in given]
    left = f"{', '.join(own)}: of the run's own data, so not used for {data}" if own else ""
    notes = (*filter(None, [separate.note, left]), f"{data} is read as: {rows.format}", *rows.notes)
    return replace(rows, train=rows.train.select([0]), held_out=rows.train, notes=notes)


if __name__ == "__main__":
    sys.exit(serve(evaluate))
