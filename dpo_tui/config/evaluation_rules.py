"""Combinations of settings of evaluations and checkpoints that cannot work; see :mod:`dpo_tui.config.rules`."""

from collections.abc import Callable

from dpo_tui.config.problems import ConfigProblem
from dpo_tui.config.schema import Config, fields
from dpo_tui.strategies.registry import strategy_of


def evaluation_batch_is_large_enough(config: Config) -> ConfigProblem | None:
    """A KL term over one example would be computed from that example alone in every evaluation."""
    fewest, found = strategy_of(config).smallest_micro_batch, config.per_device_eval_batch_size
    if found is None or found >= fewest:
        return None
    return ConfigProblem(
        "per_device_eval_batch_size", found, f"must be at least {fewest} with strategy = {config.strategy}"
    )


def the_best_is_chosen_by_a_metric_of_the_strategy(config: Config) -> ConfigProblem | None:
    """No evaluation would have the metric, and the last weights would be the result."""
    strategy = strategy_of(config)
    if config.load_best == "none" or strategy.metric_labelled(config.load_best) is not None:
        return None
    known = " or ".join(metric.label for metric in strategy.judged_metrics)
    message = f"strategy = {config.strategy} has no {config.load_best}; use {known}"
    return ConfigProblem("load_best", config.load_best, message)


def the_best_needs_held_out_rows(config: Config) -> ConfigProblem | None:
    """Nothing would be evaluated, and the last weights would be the result."""
    if config.load_best == "none" or config.eval_split > 0 or config.has_evaluation_data:
        return None
    return ConfigProblem("load_best", config.load_best, "needs held-out rows: set eval_split or eval_dataset")


def patience_waits_for_a_metric(config: Config) -> ConfigProblem | None:
    """Nothing would say which evaluation is better, and the result would be worse than one that was seen."""
    if config.early_stopping_patience is None or config.load_best != "none":
        return None
    message = 'needs to know by what an evaluation is better: set load_best = "loss", or another value of it'
    return ConfigProblem("early_stopping_patience", config.early_stopping_patience, message)


def steps_between_evaluations_by_epoch(config: Config) -> ConfigProblem | None:
    """Trainer would ignore the number."""
    if config.eval_strategy == "steps" or config.eval_steps is None:
        return None
    return ConfigProblem("eval_steps", config.eval_steps, 'does nothing with eval_strategy = "epoch"; leave it out')


def steps_between_checkpoints_by_epoch(config: Config) -> ConfigProblem | None:
    """Trainer would ignore the number."""
    if config.save_strategy == "steps" or config.save_steps == fields()["save_steps"].default:
        return None
    return ConfigProblem("save_steps", config.save_steps, 'does nothing with save_strategy = "epoch"; leave it out')


def evaluation_by_epoch_needs_held_out_rows(config: Config) -> ConfigProblem | None:
    """Nothing would be evaluated."""
    if config.eval_strategy == "steps" or config.eval_split > 0 or config.has_evaluation_data:
        return None
    return ConfigProblem("eval_strategy", "epoch", "needs held-out rows: set eval_split or eval_dataset")


def a_requeued_job_resumes(config: Config) -> ConfigProblem | None:
    """The next job would find checkpoints that it cannot resume from, and the run would fail."""
    if not config.save_only_model or config.launcher != "slurm" or not config.requeue_limit:
        return None
    message = "a job that reached its time limit could not be resumed; set requeue_limit = 0, or leave it off"
    return ConfigProblem("save_only_model", True, message)


EVALUATION_RULES: tuple[Callable[[Config], ConfigProblem | None], ...] = (
    evaluation_batch_is_large_enough,
    the_best_is_chosen_by_a_metric_of_the_strategy,
    the_best_needs_held_out_rows,
    patience_waits_for_a_metric,
    steps_between_evaluations_by_epoch,
    steps_between_checkpoints_by_epoch,
    evaluation_by_epoch_needs_held_out_rows,
    a_requeued_job_resumes,
)
