"""TrainerCallback that writes metrics and progress, and follows requests to save or to stop on all ranks together."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from dpo_tui.train.evaluation.time_budget import TrainingProgress
from dpo_tui.train.trainer.gradient_spikes import SpikeWatch
from dpo_tui.train.worker import checkpoints
from dpo_tui.train.worker.distributed import wait_for_ranks
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequests

_GB = 1e9


class RunCallback(TrainerCallback):  # type: ignore[misc]
    """Connects a trainer with the run folder.

    Attributes:
        stopped: whether training ended because someone asked for it.
        last_evaluation: the step of the latest evaluation, -1 before the first.
        look: called after each evaluation; its answer says whether training should end early.
        spikes: told the gradient's norm.
    """

    def __init__(self, journal: Journal, interruption: StopRequests, keep_checkpoints: int) -> None:
        self.journal = journal
        self.interruption = interruption
        self.keep_checkpoints = keep_checkpoints
        self.stopped = False
        self.last_evaluation = -1
        self.look: Callable[[TrainingProgress], bool] | None = None
        self.spikes: SpikeWatch | None = None
        self._step_began = 0.0
        self._idle_since = time.perf_counter()
        self._step_seconds: list[float] = []
        self._data_seconds: list[float] = []
        self._trained_seconds = 0.0
        self._trained_steps = 0
        self._tokens_logged = 0.0
        self._evaluated = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Loading the model was no waiting for data."""
        self._idle_since = time.perf_counter()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock of a step; what passed since the last one, logs and saves apart, went into its batches."""
        self._step_began = time.perf_counter()
        self._data_seconds.append(self._step_began - self._idle_since)
        self.journal.phase("train")
        if self.spikes is not None:
            self.spikes.forget()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Write progress, and turn requests into Trainer's own flags."""
        self._idle_since = time.perf_counter()
        self._step_seconds.append(self._idle_since - self._step_began)
        self._trained_seconds += self._step_seconds[-1]
        self._trained_steps += 1
        self._show_steps(state)
        requests = self.interruption.take_requests()
        if requests.stop:
            self.stopped = True
            control.should_training_stop = True
            control.should_evaluate = False
            control.should_save = True
        elif requests.checkpoint:
            control.should_save = True
        return control

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Append a line of metrics: TRL's own, and what the step cost."""
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
            if torch.cuda.is_available():
                values["vram_peak_gb"] = torch.cuda.max_memory_reserved() / _GB
        self.journal.metrics(state.global_step, epoch, values)
        if self.spikes is not None and "grad_norm" in values:
            self.spikes.judge(state.global_step, values["grad_norm"])
        self._idle_since = time.perf_counter()

    def on_prediction_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        eval_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        """Show how far an evaluation is."""
        self.journal.phase("evaluate")
        self._evaluated += 1
        total = len(eval_dataloader) if eval_dataloader is not None else None
        self.journal.progress(self._evaluated, total, "batches")

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Look closer at the model, then go back to the loop."""
        self._evaluated = 0
        self.last_evaluation = state.global_step
        if self.look is not None and any(self.interruption.agree((self.look(self._pace(state)),))):
            control.should_training_stop = True
            control.should_save = True
        if 0 < state.global_step < state.max_steps:
            self.journal.phase("train")
            self._show_steps(state)
        self._idle_since = time.perf_counter()
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Mark the checkpoint whole, then delete older ones."""
        # Each rank saves a part, such as its random state; the marker lists the sizes of all of them.
        wait_for_ranks()
        if self.journal.rank.is_first:
            folder = Path(args.output_dir)
            checkpoints.mark_complete(folder / f"checkpoint-{state.global_step}")
            checkpoints.prune(folder, self.keep_checkpoints)
        self.journal.event("checkpoint", f"Saved a checkpoint at step {state.global_step}", step=state.global_step)
        self._idle_since = time.perf_counter()

    def _pace(self, state: TrainerState) -> TrainingProgress:
        seconds = self._trained_seconds / self._trained_steps if self._trained_steps else None
        return TrainingProgress(seconds, state.global_step, state.max_steps, int(state.eval_steps or 0))

    def _show_steps(self, state: TrainerState) -> None:
        self.journal.progress(
            state.global_step,
            state.max_steps,
            "steps",
            step=state.global_step,
            max_steps=state.max_steps,
            epoch=state.epoch,
        )
