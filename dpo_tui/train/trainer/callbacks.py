"""TrainerCallback that writes metrics and progress, and follows requests to save or to stop on all ranks together.

Where requests come from: :mod:`dpo_tui.train.worker.stop_requests`. What Trainer logs goes through the journal, as one
line, into the run's ``metrics.jsonl``. Next, in the app: :mod:`dpo_tui.runs.metrics_reader`.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import IntervalStrategy

from dpo_tui.errors import TrainingError
from dpo_tui.train.evaluation.time_budget import TrainingProgress
from dpo_tui.train.trainer.best_checkpoint import BestSelection
from dpo_tui.train.trainer.gradient_spikes import SpikeDetector
from dpo_tui.train.worker import checkpoints
from dpo_tui.train.worker.distributed import values_of_ranks, wait_for_ranks
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequests

_BYTES_PER_GB = 1e9


class NothingLeftToTrain(Exception):
    """Ends Trainer's ``train`` after it has loaded a checkpoint whose training had come to its end.

    Trainer itself looks whether it is done only after a step (transformers 5.23, Trainer._run_epoch), so it would make
    one step more, unless the last one also ends an epoch.
    """


def peak_memory_gb() -> float | None:
    """The most memory that torch has reserved on this process's GPU so far, in decimal gigabytes; None without one."""
    return torch.cuda.max_memory_reserved() / _BYTES_PER_GB if torch.cuda.is_available() else None


def _require_numbers_before_training(step: int, values: dict[str, Any]) -> None:
    """Refuse a base model that computes no numbers, before its adapter is trained on them and saved.

    The evaluation of step 0 and the loss of step 1 are of the base model: the first update comes after them.

    Raises:
        TrainingError: the loss is NaN or infinite.
    """
    loss = values.get("loss", values.get("eval_loss"))
    if step <= 1 and loss is not None and not math.isfinite(loss):
        raise TrainingError(
            f"The base model computes no numbers on these rows: the loss before the first update is {loss}",
            hint="its weights hold NaN or infinite values, or overflow in this precision (bf16, attn_implementation); "
            "generate a text with it, and load it again from its source",
        )


class RunCallback(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Connects a trainer with the run folder.

    Args:
        journal: receives metrics, progress and events.
        stop_requests: asked after every step.
        keep_checkpoints: how many complete checkpoints stay.
        selection: of the best evaluation, whose checkpoint stays too; None where the last weights are the result.

    Attributes:
        stopped: whether training ended on request.
        trained_seconds: that the steps of this attempt took.
        ended_early: whether :attr:`after_evaluation` or the selection has ended the training; kept in the checkpoints.
        last_evaluation: the step of the latest evaluation, -1 before the first; after a resume that of the checkpoint.
        after_evaluation: called after each evaluation; returns whether training should end early.
        spike_detector: receives the gradient norm of each logged step.
        trainer: counts the tokens; TRL's count begins at 0 in each attempt, and is restored from the checkpoint.
        after_save: called on rank 0 with each checkpoint that is complete, and :attr:`learning_rate_sum`.
        learning_rate_sum: of the learning rates of all steps so far, those before a resume included.
    """

    def __init__(
        self,
        journal: Journal,
        stop_requests: StopRequests,
        keep_checkpoints: int,
        selection: BestSelection | None = None,
    ) -> None:
        self.journal = journal
        self.stop_requests = stop_requests
        self.keep_checkpoints = keep_checkpoints
        self.selection = selection
        self.stopped = False
        self.ended_early = False
        self.last_evaluation = -1
        self.after_evaluation: Callable[[TrainingProgress], bool] | None = None
        self.spike_detector: SpikeDetector | None = None
        self.trainer: Any = None
        self.after_save: Callable[[Path, float], None] | None = None
        self.learning_rate_sum = 0.0
        self._step_began = 0.0
        self._idle_since = time.perf_counter()
        self._step_seconds: list[float] = []
        self._data_seconds: list[float] = []
        self.trained_seconds = 0.0
        self._trained_steps = 0
        self._tokens_logged = 0.0
        self._evaluated = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock of the first batch; what came before was no waiting for data.

        Raises:
            NothingLeftToTrain: the checkpoint that was loaded is the last one of a training that had ended.
        """
        self._idle_since = time.perf_counter()
        self.last_evaluation = max((line["step"] for line in state.log_history if "eval_loss" in line), default=-1)
        # Checkpoints of earlier versions do not have this callback, without which Trainer fails at the next save.
        earlier = state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        attributes = earlier.get("attributes", {})
        self.ended_early = bool(attributes.get("ended_early"))
        if state.global_step and hasattr(self.trainer, "_total_train_tokens"):
            counted = max((line["num_tokens"] for line in state.log_history if "num_tokens" in line), default=0)
            self.trainer._total_train_tokens = self._tokens_logged = attributes.get("tokens", counted)
        # Checkpoints of earlier versions have the rates of the logged steps only.
        logged = sum(line.get("learning_rate", 0.0) for line in state.log_history)
        self.learning_rate_sum = float(attributes.get("learning_rate_sum", logged))
        if state.global_step >= state.max_steps or self.ended_early:
            raise NothingLeftToTrain

    def state(self) -> dict[str, Any]:
        """Return what Trainer writes into ``trainer_state.json`` of each checkpoint."""
        attributes = {"ended_early": self.ended_early, "learning_rate_sum": self.learning_rate_sum}
        if (tokens := getattr(self.trainer, "_total_train_tokens", None)) is not None:
            attributes["tokens"] = tokens
        return {"args": {}, "attributes": attributes}

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start a step's clock; the time since the last one, less logs, saves and evaluations, was data loading."""
        self._step_began = time.perf_counter()
        self._data_seconds.append(self._step_began - self._idle_since)
        self.journal.phase("train")
        if self.spike_detector is not None:
            self.spike_detector.start_step()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Add up the learning rate, which the scheduler has not yet changed for the next step."""
        self.learning_rate_sum += float(kwargs["optimizer"].param_groups[0]["lr"])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Write progress, and turn requests into Trainer's own control flags."""
        self._idle_since = time.perf_counter()
        self._step_seconds.append(self._idle_since - self._step_began)
        self.trained_seconds += self._step_seconds[-1]
        self._trained_steps += 1
        self._show_steps(state)
        by_steps = args.eval_strategy == IntervalStrategy.STEPS
        if self.selection is not None and by_steps and state.global_step >= state.max_steps:
            # In the loop, so that the weights of the last step are compared with the others before they are saved.
            control.should_evaluate = True
        # A collective after every step, so that all ranks save or leave the loop in the same step.
        requests = self.stop_requests.take_requests()
        if requests.stop:
            self.stopped = True
            control.should_training_stop = True
            # Whoever stops a run waits for its end: save, but do not evaluate first.
            control.should_evaluate = False
            control.should_save = True
        elif requests.checkpoint:
            control.should_save = True
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Take back what Trainer orders at the end of an epoch, which it also calls the step that a stop ended."""
        if self.stopped:
            control.should_evaluate = control.should_save = False
        return control

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Append a line of metrics: TRL's own, and seconds, tokens per second and memory.

        Seconds are means over the steps since the last logged loss.
        """
        values = {name: value for name, value in (logs or {}).items() if isinstance(value, int | float)}
        epoch = values.pop("epoch", state.epoch)
        if "loss" in values and self._step_seconds:
            seconds = sum(self._step_seconds)
            values["step_seconds"] = seconds / len(self._step_seconds)
            values["data_seconds"] = sum(self._data_seconds) / len(self._data_seconds)
            tokens = values.get("num_tokens", 0.0)
            values["tokens_per_second"] = (tokens - self._tokens_logged) / seconds
            self._tokens_logged = tokens
            self._step_seconds.clear()
            self._data_seconds.clear()
            if (peak := peak_memory_gb()) is not None:
                self.journal.reporter.memory(peak)
                # All ranks log the same steps. Of several GPUs the fullest decides what fits.
                values["vram_peak_gb"] = max(values_of_ranks(peak))
        self.journal.metrics(state.global_step, epoch, values)
        _require_numbers_before_training(state.global_step, values)
        if self.spike_detector is not None and "grad_norm" in values:
            self.spike_detector.check(state.global_step, values["grad_norm"])
        self._idle_since = time.perf_counter()

    def on_prediction_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        eval_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        """Write the progress of an evaluation."""
        self.journal.phase("evaluate")
        self._evaluated += 1
        total = len(eval_dataloader) if eval_dataloader is not None else None
        self.journal.progress(self._evaluated, total, "batches")

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Run the further evaluation (KL estimate, sampled answers), and end the training early if that says so."""
        self._evaluated = 0
        self.last_evaluation = state.global_step
        ends_early = self.after_evaluation is not None and self.after_evaluation(self._training_progress(args, state))
        is_best, ended = self._compare_evaluations(state)
        if ended:
            self.journal.event("note", ended, rule="early-stopping", step=state.global_step)
        # A limit may be exceeded in the estimate of one rank alone, and rank 0 alone compares; all ranks must save, and
        # leave the loop, together.
        ends_early, is_best = self.stop_requests.reduce_flags((ends_early or bool(ended), is_best))
        if ends_early:
            self.ended_early = True
            control.should_training_stop = True
        # Trainer evaluates before it saves, so that this checkpoint is of the weights that were evaluated.
        control.should_save = control.should_save or ends_early or is_best
        if 0 < state.global_step < state.max_steps:
            self.journal.phase("train")
            self._show_steps(state)
        self._idle_since = time.perf_counter()
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Mark the checkpoint complete, then delete older ones."""
        # Each rank saves a part, such as its random state, and the marker lists the sizes of all files.
        wait_for_ranks()
        if self.journal.rank.is_first:
            folder = Path(args.output_dir)
            checkpoints.mark_complete(folder / f"checkpoint-{state.global_step}")
            best_step = self.selection.best_step(state.log_history) if self.selection is not None else None
            checkpoints.prune(folder, self.keep_checkpoints, best_step)
        self.journal.event("checkpoint", f"Saved a checkpoint at step {state.global_step}", step=state.global_step)
        if self.after_save is not None and self.journal.rank.is_first:
            self.after_save(Path(args.output_dir) / f"checkpoint-{state.global_step}", self.learning_rate_sum)
        self._idle_since = time.perf_counter()

    def _compare_evaluations(self, state: TrainerState) -> tuple[bool, str]:
        """Return whether the latest evaluation is the best, and why training ends, if it does; on rank 0 alone."""
        if self.selection is None or state.global_step == 0 or not self.journal.rank.is_first:
            return False, ""
        is_best = self.selection.best_step(state.log_history) == state.global_step
        # After the last step nothing ends early.
        ends = state.global_step < state.max_steps
        return is_best, self.selection.ends(state.log_history) if ends else ""

    def _training_progress(self, args: TrainingArguments, state: TrainerState) -> TrainingProgress:
        interval = int(state.eval_steps or 0)
        if args.eval_strategy == IntervalStrategy.EPOCH:
            interval = max(1, state.max_steps // max(1, state.num_train_epochs))
        seconds = self.trained_seconds / self._trained_steps if self._trained_steps else None
        return TrainingProgress(seconds, state.global_step, state.max_steps, interval)

    def _show_steps(self, state: TrainerState) -> None:
        self.journal.progress(
            state.global_step,
            state.max_steps,
            "steps",
            step=state.global_step,
            max_steps=state.max_steps,
            epoch=state.epoch,
        )
