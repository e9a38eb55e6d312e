"""Keys of transformers' Trainer, and of the tools on it, for the best checkpoint and early stopping.

Trainer compares the evaluations of the steps that it saves, ``load_best`` all of them.
"""

from collections.abc import Mapping
from typing import Any

from dpo_tui.config.dialects.conversion import Conversion, Convert, number, switch

# By metric_for_best_model, without its eval_: load_best, and whether more is better.
_METRICS = {"loss": ("loss", False), "rewards/accuracies": ("accuracy", True), "rewards/margins": ("margin", True)}
_OTHER_METRIC = "load_best compares the held-out loss, accuracy or margin; remove the key, or name one of these"
_OTHER_DIRECTION = "is the other direction than that of the metric"


def _load_best(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if not switch(value):
        conversion.drop(key, "is off")
        return
    chosen = _chosen(raw)
    if chosen is None:
        conversion.leave_undecided(key, value, f"{raw.get('metric_for_best_model')}: {_OTHER_METRIC}")
    else:
        conversion.take(key, "load_best", chosen[0], "all evaluations are compared")


def _metric(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    chosen = _chosen(raw)
    if not _compares(raw):
        conversion.drop(key, "is read with load_best_model_at_end or a patience only")
    elif chosen is None:
        conversion.leave_undecided(key, value, _OTHER_METRIC)
    else:
        conversion.take(key, "load_best", chosen[0])


def _direction(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    chosen = _chosen(raw)
    if value is not None and _compares(raw) and chosen is not None and switch(value) != chosen[1]:
        conversion.leave_undecided(key, value, _OTHER_DIRECTION)
    else:
        conversion.drop(key, "follows from load_best")


def _patience(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if not value:
        conversion.drop(key, "is off")
        return
    conversion.take(key, "early_stopping_patience", number(value))
    chosen = _chosen(raw)
    if chosen is not None:
        conversion.values.setdefault("load_best", chosen[0])


def _chosen(raw: Mapping[str, Any]) -> tuple[str, bool] | None:
    """What is compared; transformers' default is the loss."""
    return _METRICS.get(str(raw.get("metric_for_best_model") or "loss").removeprefix("eval_"))


def _compares(raw: Mapping[str, Any]) -> bool:
    return switch(raw.get("load_best_model_at_end")) or any(raw.get(name) for name in _PATIENCE)


# Of Axolotl, LLaMA-Factory and ms-swift: each is the patience of transformers' EarlyStoppingCallback.
_PATIENCE = ("early_stopping_patience", "early_stopping_steps", "early_stop_interval")

BEST_CHECKPOINT: dict[str, Convert] = {
    "load_best_model_at_end": _load_best,
    "metric_for_best_model": _metric,
    "greater_is_better": _direction,
    **dict.fromkeys(_PATIENCE, _patience),
}
