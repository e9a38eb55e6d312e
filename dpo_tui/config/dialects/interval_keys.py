"""Keys of transformers' Trainer that say when a run evaluates and saves: by steps, by epoch, or not at all."""

from collections.abc import Mapping
from typing import Any

from dpo_tui.config.dialects.conversion import Conversion, Convert

_STRATEGY_OF = {"eval_steps": ("eval_strategy", "evaluation_strategy"), "save_steps": ("save_strategy",)}
_EVALUATION_DATA = ("eval_dataset", "eval_dataset_split", "eval_dataset_config")


def _evaluate(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if str(value) != "epoch":
        conversion.drop(key, "evaluation follows eval_split and eval_steps")
    else:
        conversion.take(key, "eval_strategy", "epoch")


def _save(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if str(value) == "epoch":
        conversion.take(key, "save_strategy", "epoch")
    elif str(value) == "best":
        conversion.drop(key, "load_best, in [eval], keeps the best checkpoint, beside those of save_steps")
    else:
        conversion.drop(key, "checkpoints follow save_steps")


def by_epoch(key: str, raw: Mapping[str, Any]) -> str:
    """The key that says ``epoch``, which makes ``eval_steps`` or ``save_steps`` mean nothing; empty where none does."""
    names = _STRATEGY_OF.get(key.rpartition(".")[2], ())
    return next((name for name in names if str(raw.get(name)) == "epoch"), "")


def _steps(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if name := by_epoch(key, raw):
        conversion.drop(key, f"is not read with {name}: epoch")
    else:
        conversion.other(key.rpartition(".")[2], value, shown=key)


def drop_evaluation_without_rows(conversion: Conversion) -> None:
    """Drop an evaluation by epoch from a file that holds nothing out, so that there is nothing to evaluate."""
    values = conversion.values
    if values.get("eval_strategy") != "epoch" or values.get("eval_split"):
        return
    if any(values.get(name) for name in _EVALUATION_DATA):
        return
    del values["eval_strategy"]
    kept = [row for row in conversion.outcomes if row.to != "eval_strategy"]
    (dropped,) = (row for row in conversion.outcomes if row.to == "eval_strategy")
    conversion.outcomes[:] = kept
    conversion.drop(dropped.key, "nothing is held out: eval_split or eval_dataset, in [eval], gives rows")


INTERVALS: dict[str, Convert] = {
    "eval_strategy": _evaluate,
    "evaluation_strategy": _evaluate,
    "save_strategy": _save,
    "eval_steps": _steps,
    "save_steps": _steps,
}
