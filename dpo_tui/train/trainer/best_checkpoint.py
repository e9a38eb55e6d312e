"""The best evaluated checkpoint of a run (``load_best``): which one it is, when to stop waiting, and restoring it.

All of it follows from Trainer's log of evaluations, which is in the ``trainer_state.json`` of each checkpoint. Nothing
else has to be kept: a resume from any checkpoint knows what was the best when that checkpoint was saved.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpo_tui.config.schema import Config
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.runs.checkpoint_checksums import DAMAGED, damaged_file
from dpo_tui.runs.complete_checkpoints import MARKER, is_complete
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.train.model.checked_loading import load_result_into
from dpo_tui.train.worker.distributed import broadcast_from_first
from dpo_tui.train.worker.journal import Journal

LogHistory = Sequence[dict[str, Any]]
"""``TrainerState.log_history``: a line for each call of ``Trainer.log``, with its step."""


@dataclass(frozen=True)
class BestStep:
    """The step whose weights are the result of a run; ``best`` in the results of receipt.json.

    Attributes:
        step: of the evaluation.
        metric: by which it is the best, as it is logged.
        value: of that metric.
        last_step: the last step that was trained.
        evaluations: how many there were after the first step.
        ended: why patience ended the training before its last step, in a sentence; empty where it did not.
    """

    step: int
    metric: str
    value: float
    last_step: int
    evaluations: int
    ended: str = ""


class BestSelection:
    """Compares the evaluations of a run by one metric of the held-out rows.

    The evaluation before the first step is not one of them: it has no checkpoint, and an untrained result is none.

    Args:
        metric: as it is logged, with its ``eval_``.
        higher_is_better: its direction.
        patience: after how many evaluations without a better one the training ends; None for never.
    """

    def __init__(self, metric: str, *, higher_is_better: bool, patience: int | None) -> None:
        self.metric = metric
        self.patience = patience
        self._sign = 1.0 if higher_is_better else -1.0

    @classmethod
    def of(cls, config: Config) -> "BestSelection | None":
        """Return the selection that a config asks for; None where the weights after the last step are the result."""
        metric = strategy_of(config).metric_labelled(config.load_best)
        if metric is None:
            return None
        return cls(
            f"eval_{metric.name}", higher_is_better=metric.better == "up", patience=config.early_stopping_patience
        )

    def ranked(self, history: LogHistory) -> list[tuple[int, float]]:
        """Return step and value of the evaluations, the best first, of equal ones the earlier; no NaN."""
        found = [(step, value) for step, value in self.values(history).items() if math.isfinite(value)]
        return sorted(found, key=lambda one: (-self._sign * one[1], one[0]))

    def best_step(self, history: LogHistory) -> int | None:
        """Return the step of the best evaluation so far; None without any that has a finite value."""
        ranked = self.ranked(history)
        return ranked[0][0] if ranked else None

    def ends(self, history: LogHistory) -> str:
        """Return why the training ends now, in a sentence; empty where it goes on."""
        steps = list(self.values(history))
        best = self.best_step(history)
        waited = len([step for step in steps if best is None or step > best])
        if self.patience is None or waited < self.patience:
            return ""
        count = f"{waited} evaluation{'s' if waited > 1 else ''}"
        since = f"better than step {best}" if best is not None else "with a finite value"
        return (
            f"Training ends at step {steps[-1]}: {count} with no {self.metric} {since} "
            f"(early_stopping_patience = {self.patience})"
        )

    def better_before_training(self, history: LogHistory) -> float | None:
        """Return the value before the first step where no later one is better; None where one is, or none is known."""
        start = next((line[self.metric] for line in history if line["step"] == 0 and self.metric in line), math.nan)
        ranked = self.ranked(history)
        if not ranked or not math.isfinite(start) or self._sign * (ranked[0][1] - start) > 0:
            return None
        return float(start)

    def values(self, history: LogHistory) -> dict[int, float]:
        """The value of each evaluation by step; NaN where it lacks the metric. One that was made again counts once."""
        return {
            line["step"]: float(line.get(self.metric, math.nan))
            for line in history
            if "eval_loss" in line and line["step"] > 0
        }


def restore_best(trainer: Any, selection: BestSelection, folder: Path, journal: Journal) -> BestStep | None:
    """Give a trained model the weights of its best evaluation, on every rank.

    Where that checkpoint is damaged or gone, the best one that is left is restored, and a warning says so.

    Args:
        trainer: after its training, and the evaluation of its last step.
        selection: by which metric.
        folder: of the checkpoints.
        journal: receives what was restored, and why another one was not.

    Returns:
        What the model now is; None where no evaluation had a finite value, and the last weights stay.

    Raises:
        TrainingError: the checkpoint does not hold exactly what is trained.
    """
    # Rank 0 chooses: it reads every file, and all ranks must load the same.
    best: BestStep | None = broadcast_from_first(
        _choose(trainer.state, selection, folder, journal) if journal.rank.is_first else None
    )
    if best is None:
        journal.event("warning", f"No evaluation had a finite {selection.metric}: the weights after the last step stay")
        return None
    if best.step != best.last_step:
        load_result_into(trainer.model, folder / f"checkpoint-{best.step}")
    which = "the last" if best.step == best.last_step else f"restored, and not those of step {best.last_step}"
    message = f"The result is the weights of step {best.step}, {which}: {best.metric} {best.value:.4g} is the best"
    journal.event(
        "note", f"{message} of {best.evaluations} evaluations", step=best.step, rule="best", best=asdict(best)
    )
    start = selection.better_before_training(trainer.state.log_history)
    if start is not None:
        message = f"No evaluation was better than the one before the training: {best.metric} was {start:.4g}"
        journal.event("warning", message, rule="best-untrained")
    return best


def learning_rate_sum_at(checkpoint: Path, default: float) -> float:
    """Return the sum of the learning rates up to a checkpoint; ``default`` where it does not say."""
    state = read_json(checkpoint / "trainer_state.json") or {}
    attributes = state.get("stateful_callbacks", {}).get("RunCallback", {}).get("attributes", {})
    return float(attributes.get("learning_rate_sum", default))


def _choose(state: Any, selection: BestSelection, folder: Path, journal: Journal) -> BestStep | None:
    ranked = selection.ranked(state.log_history)
    for place, (step, value) in enumerate(ranked):
        checkpoint = folder / f"checkpoint-{step}"
        # The weights after the last step are in memory, whether or not there is a checkpoint of them.
        problem = "" if step == state.global_step else _problem(checkpoint)
        if not problem:
            ended = selection.ends(state.log_history) if state.global_step < state.max_steps else ""
            evaluations = len(selection.values(state.log_history))
            return BestStep(step, selection.metric, value, state.global_step, evaluations, ended)
        # Checkpoints of lesser evaluations are deleted as newer ones come, and nobody misses them.
        if place == 0 or checkpoint.is_dir():
            message = f"The weights of step {step} cannot be restored: {checkpoint.name} {problem}"
            journal.event("warning", f"{message}. The best of those that are left is taken", step=step)
    return None


def _problem(checkpoint: Path) -> str:
    """What is wrong with a checkpoint, as the end of a sentence; empty where it is whole."""
    if not checkpoint.is_dir():
        return "is gone"
    if not is_complete(checkpoint):
        return "is incomplete"
    damaged = damaged_file(checkpoint)
    if damaged is None:
        return ""
    if damaged != MARKER:
        (checkpoint / MARKER).rename(checkpoint / DAMAGED)
    return f"is damaged ({damaged})"
