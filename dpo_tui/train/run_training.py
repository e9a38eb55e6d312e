"""Train one run, from its frozen config to its adapter: load the model, add adapters, load the pairs, train, save.

Each of the five steps is a phase in the journal. The worker process calls this (:mod:`dpo_tui.train.__main__`).

Next, for a setting of TRL: :mod:`dpo_tui.train.trainer.trainer_registry`; for the rows:
:mod:`dpo_tui.train.trainer.run_datasets`; for the metrics: :mod:`dpo_tui.train.trainer.callbacks`.
"""

import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dpo_tui.config.schema import Config
from dpo_tui.data.changed_data import change_of
from dpo_tui.data.load_split import require_held_out, split_version
from dpo_tui.runs import control_requests
from dpo_tui.runs.atomic_files import read_json, write_text_atomic
from dpo_tui.runs.complete_checkpoints import newest_complete, step_of
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.held_out_record import write_held_out
from dpo_tui.runs.merged_start import MergedStart
from dpo_tui.runs.trackers import check_trackers, set_environment
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.train.evaluation.in_training import InTrainingEvaluation
from dpo_tui.train.export.merged_model import NOT_CHECKED, write_merged_folder
from dpo_tui.train.export.model_card import Kind, model_card
from dpo_tui.train.export.save_check import SaveCheck
from dpo_tui.train.model import unsloth
from dpo_tui.train.model.base_files import require_earlier_stages
from dpo_tui.train.model.device import TrainingDevice, choose_device, require_trainable_attention
from dpo_tui.train.model.load import load_model, load_tokenizer
from dpo_tui.train.trainer.answer_lengths import answer_lengths
from dpo_tui.train.trainer.best_checkpoint import BestSelection, BestStep, learning_rate_sum_at, restore_best
from dpo_tui.train.trainer.callbacks import NothingLeftToTrain, RunCallback
from dpo_tui.train.trainer.gradient_spikes import SpikeDetector
from dpo_tui.train.trainer.run_datasets import RunDatasets, load_datasets
from dpo_tui.train.trainer.trainer_registry import build_trainer
from dpo_tui.train.trainer.trainers import shortcuts_of
from dpo_tui.train.worker.checkpoints import checkpoint_to_resume, require_optimizer_state
from dpo_tui.train.worker.distributed import broadcast_from_first, join_ranks
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.receipt import DataUsed, write_receipt
from dpo_tui.train.worker.result_folder import save_result
from dpo_tui.train.worker.stop_requests import StopRequested, StopRequests

_FEW_DUPLICATES = 0.05
"""Share of copies in the training rows up to which no warning is written."""
_FEW_CUT_ANSWERS = 0.01
"""Share of the training pairs with a cut answer up to which it is a note."""


def run_training(config: Config, folder: RunFolder, journal: Journal, stop_requests: StopRequests) -> None:
    """Train, from the newest complete checkpoint if there is one.

    Args:
        config: the run's settings, changed only by the out-of-memory retry.
        folder: the run.
        journal: receives phases, metrics and events.
        stop_requests: checked between the phases, and after every step of training.

    Raises:
        StopRequested: a stop was requested; a checkpoint is saved if training had begun.
        DpoTuiError: the data, the model or the device cannot be used.
    """
    join_ranks(journal.rank, on_gpu=config.gpus != "none" and torch.cuda.is_available())
    require_earlier_stages(config)
    check_trackers(config.report_to)
    set_environment(config.report_to, folder)
    rows, data_changes = _load_rows(config, folder, journal, stop_requests)
    _report_rows(rows, journal)
    device = choose_device(config)
    journal.event("note", device.description)
    require_trainable_attention(config, device)

    stop_requests.raise_if_stopped()
    _report_start(config, journal)
    model, tokenizer = _load_policy(config, device, journal)

    stop_requests.raise_if_stopped()
    checkpoint = _checkpoint(config, folder, journal)
    callback = RunCallback(journal, stop_requests, config.save_total_limit, BestSelection.of(config))
    trainer = build_trainer(
        config,
        folder,
        device,
        model=model,
        tokenizer=tokenizer,
        rows=rows,
        callback=callback,
        resumes=checkpoint is not None,
    )
    data = _data_used(config, rows, trainer)
    receipt = partial(
        write_receipt, folder, config, device, data, split_version=rows.split_version, data_changes=data_changes
    )
    _report_too_long(config, data, journal)
    if journal.rank.is_first:
        write_held_out(folder, rows.untrained, keep_only_earlier=bool(data_changes))
        receipt({}, shortcuts=shortcuts_of(trainer))
        # Not before the receipt lists the change: if this attempt fails earlier, the next one still has the user's
        # consent.
        control_requests.clear(folder, control_requests.ACCEPT_CHANGED_DATA)

    stop_requests.raise_if_stopped()
    in_training = InTrainingEvaluation(
        config,
        trainer,
        tokenizer,
        prompts=rows.prompts,
        tools=rows.prompt_tools,
        journal=journal,
        stop_requests=stop_requests,
        first_step=step_of(checkpoint) if checkpoint else 0,
    )
    save_check = SaveCheck(config, journal)
    _connect(callback, trainer, tokenizer, in_training, save_check)
    if checkpoint is None:
        in_training.before()
    # From here on SIGTERM no longer raises: the callback ends the loop after the step, with a checkpoint.
    stop_requests.can_save = True
    journal.phase("train")
    _train(trainer, checkpoint, journal)
    if callback.stopped:
        raise StopRequested
    # Every run ends with an evaluation, also where eval_steps does not divide its steps.
    if rows.held_out is not None and callback.last_evaluation != trainer.state.global_step:
        trainer.evaluate()
    best = _restore_best(trainer, callback, folder)
    in_training.after(callback.trained_seconds, best.step if best else None)

    journal.phase("save")
    results = _results(trainer, best)
    save_result(
        trainer.save_model,
        folder.adapter if config.use_lora else folder.merged,
        journal.rank,
        lambda saved: save_check.check_result(saved, callback.learning_rate_sum),
    )
    if not journal.rank.is_first:
        return
    kind: Kind = "adapter" if config.use_lora else "model"
    if config.use_lora and config.merge_at_end:
        checked = write_merged_folder(
            config,
            folder,
            device.dtype,
            lambda what, done, total: journal.progress(done, total, "files", detail=what.lower()),
        )
        journal.event("warning" if checked == NOT_CHECKED else "note", f"Merged. {checked}")
    write_text_atomic(folder.model_card, model_card(config, vars(data), results, kind))
    receipt(results, shortcuts=shortcuts_of(trainer))
    journal.phase("done")


def _report_start(config: Config, journal: Journal) -> None:
    if (start := MergedStart.of(config.model_name)) is not None:
        journal.event("note", start.sentence(), adapter=start.adapter, base=start.base)


def _checkpoint(config: Config, folder: RunFolder, journal: Journal) -> Path | None:
    """Return the checkpoint to resume from; None where the run begins."""
    # Rank 0 chooses: it reads every file of the checkpoint, and takes the marker of a damaged one away.
    checkpoint: Path | None = broadcast_from_first(
        checkpoint_to_resume(folder.checkpoints, journal) if journal.rank.is_first else None
    )
    require_optimizer_state(config, checkpoint)
    return checkpoint


def _connect(
    callback: RunCallback, trainer: Any, tokenizer: Any, in_training: InTrainingEvaluation, save_check: SaveCheck
) -> None:
    """Give the callback what it calls in the training, and the trainer whose tokens it counts on."""
    callback.trainer = trainer
    callback.after_evaluation = in_training.at_evaluation
    callback.after_save = save_check.check_checkpoint
    callback.spike_detector = SpikeDetector(tokenizer, callback.journal)
    callback.spike_detector.attach(trainer)


def _train(trainer: Any, checkpoint: Path | None, journal: Journal) -> None:
    """Train to the end, or only load a checkpoint of an attempt that ended after its last step, before its result."""
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except NothingLeftToTrain:
        step = trainer.state.global_step
        journal.event("note", f"Nothing is left to train after step {step}: the result is made from it", step=step)
        # Trainer did not come to the end of its `train`, where trackers close what they opened.
        trainer.is_in_train = False
        trainer.control = trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)


def _restore_best(trainer: Any, callback: RunCallback, folder: RunFolder) -> BestStep | None:
    """Restore the weights of the best evaluation; None where the config does not ask for it, or there is none."""
    if callback.selection is None:
        return None
    best = restore_best(trainer, callback.selection, folder.checkpoints, callback.journal)
    if best and best.step != best.last_step:
        # The result is checked by it: no weight has moved yet in a best step whose learning rates were all zero.
        checkpoint = folder.checkpoints / f"checkpoint-{best.step}"
        callback.learning_rate_sum = learning_rate_sum_at(checkpoint, callback.learning_rate_sum)
    return best


def _load_policy(config: Config, device: TrainingDevice, journal: Journal) -> tuple[Any, Any]:
    """Load the model that is trained, without its adapter, and its tokenizer."""
    journal.phase("load-model")
    tokenizer, notes = load_tokenizer(config)
    for note in notes:
        journal.event("note", note)
    if config.provider == "unsloth":
        return unsloth.load_model(config, device), tokenizer
    return load_model(config, device, warn=lambda message: journal.event("warning", message)), tokenizer


def _load_rows(
    config: Config, folder: RunFolder, journal: Journal, stop_requests: StopRequests
) -> tuple[RunDatasets, list[dict[str, Any]]]:
    """Load the rows, split as in the run's earlier attempts.

    Returns:
        The rows, and one entry for each change of the data that the user has accepted: what the run trained on before.

    Raises:
        DataError: the data cannot be used, or has changed since the run began and the user has not accepted that.
    """
    earlier = read_json(folder.receipt)

    def read(_phase: str, done: int, total: int) -> None:
        journal.progress(done, total, "bytes")
        # Each rank reads by itself, and none may leave while the others go on to what they do together.
        if journal.rank.is_alone and stop_requests.stop_wanted():
            raise StopRequested

    rows = load_datasets(config, read, version=split_version(earlier))
    require_held_out(config, len(rows.held_out) if rows.held_out is not None else 0)
    changes = list((earlier or {}).get("data_changes") or [])
    change = change_of(earlier, config, rows)
    if change is None or earlier is None:
        return rows, changes
    if not control_requests.is_requested(folder, control_requests.ACCEPT_CHANGED_DATA):
        raise change.error(folder.id)
    checkpoint, _ = newest_complete(folder.checkpoints)
    step = step_of(checkpoint) if checkpoint else 0
    journal.event("warning", f"{change.message}. Going on as asked; held-out rows may have been trained on", step=step)
    return rows, [*changes, {"t": time.time(), "until_step": step, "data": earlier["data"]}]


def _report_rows(rows: RunDatasets, journal: Journal) -> None:
    held_out = len(rows.held_out) if rows.held_out is not None else 0
    journal.event("note", f"{len(rows.train):,} rows to train on, {held_out:,} held out ({rows.format})")
    for note in rows.notes:
        journal.event("note", note)
    if rows.dropped:
        first = "; ".join(f"{problem.label}: {problem.message}" for problem in rows.dropped[:3])
        journal.event("warning", f"{len(rows.dropped):,} rows cannot be used: {first}", rows=len(rows.dropped))
    if rows.repeated > _FEW_DUPLICATES * len(rows.train):
        message = f"{rows.repeated:,} of {len(rows.train):,} training rows are copies of earlier ones"
        journal.event("warning", message, rule="duplicates", rows=rows.repeated, of=len(rows.train))
    for found in rows.template:
        kind = "warning" if found.severity == "warning" else "note"
        journal.event(kind, found.sentence, rule=found.check)
    if rows.leaked:
        message = f"{rows.leaked:,} of {held_out:,} held-out prompts are trained on as well"
        journal.event("warning", message, rule="leak", rows=rows.leaked, of=held_out)


def _report_too_long(config: Config, data: DataUsed, journal: Journal) -> None:
    if data.answers_cut:
        message = (
            f"{data.answers_cut:,} of {data.train:,} training pairs have an answer that is cut at max_seq_length = "
            f"{config.max_seq_length:,} tokens: it is trained without its end"
        )
        kind = "warning" if data.answers_cut > _FEW_CUT_ANSWERS * data.train else "note"
        journal.event(kind, message, rule="answers-cut", rows=data.answers_cut, of=data.train)
    if data.too_long:
        reason = f"the prompt alone fills max_seq_length = {config.max_seq_length:,} tokens"
        examples = strategy_of(config).data.value
        journal.event("warning", f"{data.too_long:,} {examples} dropped: {reason}", rows=data.too_long)


def _data_used(config: Config, rows: RunDatasets, trainer: Any) -> DataUsed:
    train = len(trainer.train_dataset)
    held_out = len(trainer.eval_dataset) if trainer.eval_dataset is not None else 0
    lengths = answer_lengths(trainer.train_dataset, config.max_seq_length, config.truncation_mode)
    return DataUsed(
        location=config.dataset_text,
        sha256=rows.sha256,
        format=rows.format,
        rows=rows.total,
        unusable=len(rows.dropped),
        # Packed sequences are not counted in rows, and packing leaves none out.
        too_long=0 if config.packing else rows.examples - train - held_out,
        train=train,
        held_out=held_out,
        **vars(lengths),
        held_out_sha256=rows.held_out_sha256,
        notes=rows.notes,
        sources=[one.to_json() for one in rows.sources],
        reading=rows.reading,
    )


def _results(trainer: Any, best: BestStep | None = None) -> dict[str, Any]:
    """Return the metrics of the result: of each the last value up to its step, and those of the training as a whole.

    A KL estimate only if it is of the result's own evaluation.
    """
    history = trainer.state.log_history
    step = best.step if best else trainer.state.global_step
    evaluated = max((line["step"] for line in history if "eval_loss" in line and line["step"] <= step), default=0)
    latest: dict[str, Any] = {}
    for line in history:
        if line["step"] > step:
            # What a later step measured is of other weights. What the training took is of the whole of it.
            later = {name: value for name, value in line.items() if not name.startswith("eval_")}
            latest = later | latest | {name: later[name] for name in ("vram_peak_gb",) if name in later}
        elif "eval_kl" not in line or line["step"] == evaluated:
            latest |= line
    results = {"steps": trainer.state.global_step, "metrics": latest}
    return results | ({"best": asdict(best)} if best else {})
