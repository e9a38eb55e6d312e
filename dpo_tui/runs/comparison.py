"""Comparison of several runs: settings that differ, and their results. Standard library only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dpo_tui.runs.atomic_files import read_json
from dpo_tui.runs.comparison_noise import ACCURACY, noise_notes
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.frozen_config import read_settings
from dpo_tui.runs.metrics_reader import latest
from dpo_tui.runs.status import status_of
from dpo_tui.strategies.registry import judged_metrics, strategy_in
from dpo_tui.strategies.strategy import DataForm

# (metric, label, whether more is better; None where neither direction is)
RESULTS: tuple[tuple[str, str, bool | None], ...] = (
    *((f"eval_{metric.name}", f"held-out {metric.label}", metric.better == "up") for metric in judged_metrics()),
    ("eval_kl", "KL to the reference", None),
    ("loss", "last training loss", None),
    ("step_seconds", "seconds a step", False),
    ("vram_peak_gb", "peak GPU memory, GB", False),
)
# Settings that differ between any two runs and do not affect the result.
_IRRELEVANT = {"name", "profile", "gpus"}
_SCALES = (
    "strategy", "loss_type", "loss_weights", "beta", "label_smoothing", "ld_alpha", "use_weighting",
    "f_divergence_type", "f_alpha_divergence_coef", "discopop_tau", "simpo_gamma", "cpo_alpha", "desirable_weight",
    "undesirable_weight", "trl",
)  # fmt: skip
"""Settings that make another figure of the same model's loss and rewards, which then do not compare."""
_SCALED = {"eval_loss", "eval_rewards/margins"}
_SEPARATE = ("eval_dataset", "eval_dataset_config", "eval_dataset_split")
"""Settings that name evaluation data which are no held-out part of the rows that are trained on."""


@dataclass(frozen=True)
class RunComparison:
    """Runs side by side; every list is in the order of the runs.

    Attributes:
        runs: id, name, status and steps of each.
        settings: values by name, of the settings that are not the same in all.
        results: values by metric; None where a run has none.
        best: index of the best run by metric, where one alone is better. None for held-out figures of different
            pairs, nor for losses and margins of different losses.
        same_held_out: whether all were evaluated on the same pairs; None where that is not recorded.
        notes: what in the results is chance, or may be, in sentences.
    """

    runs: list[dict[str, Any]]
    settings: dict[str, list[Any]]
    results: dict[str, list[float | None]]
    best: dict[str, int]
    same_held_out: bool | None
    notes: list[str]

    @property
    def warning(self) -> str:
        """Why the held-out figures do not compare; empty where they do, or where that is not known."""
        if self.same_held_out is not False:
            return ""
        return "the runs were evaluated on different pairs: their held-out figures do not compare"

    def names(self) -> list[str]:
        """A name for each run; runs of the same name get the end of their id."""
        names = [run["name"] or run["id"] for run in self.runs]
        return [
            name if names.count(name) == 1 else f"{name} {run['id'][-4:]}"
            for name, run in zip(names, self.runs, strict=True)
        ]


def compare(folders: Sequence[RunFolder]) -> RunComparison:
    """Read the runs and compare them.

    Raises:
        RunError: a newer dpo-tui wrote one of the folders.
    """
    settings = [read_settings(folder.config) for folder in folders]
    metrics = [latest(folder.metrics) | _metrics_of_best(folder) for folder in folders]
    names = dict.fromkeys(name for one in settings for name in one)
    different = {
        name: [one.get(name) for one in settings]
        for name in names
        if name not in _IRRELEVANT and any(one.get(name) != settings[0].get(name) for one in settings)
    }
    values_by_metric = {name: [_number(one.get(name)) for one in metrics] for name, _, _ in RESULTS}
    results = {name: values for name, values in values_by_metric.items() if any(value is not None for value in values)}
    same_held_out = _same_held_out(folders, settings)
    other_loss = not different.keys().isdisjoint(_SCALES)
    best = {
        name: found
        for name, _, more in RESULTS
        if more is not None
        and name in results
        and not (name.startswith("eval_") and same_held_out is False)
        and not (name in _SCALED and other_loss)
        and (found := _best(results[name], more)) is not None
    }
    about = [_about(folder) for folder in folders]
    comparison = RunComparison(about, different, results, best, same_held_out, [])
    if not results or len({folder.id for folder in folders}) != len(folders):
        return comparison
    data = [_data(folder) for folder in folders]
    counts = [count if isinstance(count := one.get("held_out"), int) else None for one in data]
    notes = noise_notes(
        comparison.names(),
        different,
        [one.get("sha256") for one in data],
        results.get(ACCURACY, [None] * len(folders)),
        counts if comparison.same_held_out else [None] * len(folders),
    )
    return replace(comparison, notes=notes)


def _metrics_of_best(folder: RunFolder) -> dict[str, Any]:
    """The metrics of the step whose weights are the result, where it is the best one and not the last."""
    results = (read_json(folder.receipt) or {}).get("results")
    if not isinstance(results, dict) or not results.get("best"):
        return {}
    metrics = results.get("metrics")
    return metrics if isinstance(metrics, dict) else {}


def _about(folder: RunFolder) -> dict[str, Any]:
    status = status_of(folder)
    name = status.state.name if status.state else ""
    return {
        "id": folder.id,
        "name": name,
        "status": status.status,
        "step": status.progress.get("step"),
        "max_steps": status.progress.get("max_steps"),
    }


def _data(folder: RunFolder) -> dict[str, Any]:
    """The data that a run was trained on, as its receipt has it; empty before there is one."""
    data = (read_json(folder.receipt) or {}).get("data")
    return data if isinstance(data, dict) else {}


def _same_held_out(folders: Sequence[RunFolder], settings: Sequence[dict[str, Any]]) -> bool | None:
    """Whether all runs held out the same pairs; None where that is not recorded of one."""
    keys = [held_out_key(folder, one) for folder, one in zip(folders, settings, strict=True)]
    return None if None in keys else len(set(keys)) == 1


def held_out_key(folder: RunFolder, settings: dict[str, Any]) -> tuple[Any, ...] | None:
    """What is equal for runs that hold out the same pairs: one separate file, or the same data split the same way.

    Args:
        folder: the run.
        settings: of its config.

    Returns:
        None where that is not recorded yet.
    """
    receipt = read_json(folder.receipt) or {}
    data = receipt.get("data")
    digest = data.get("sha256") if isinstance(data, dict) else None
    if not settings.get("eval_dataset") and not digest:
        return None
    if any(map(settings.get, _SEPARATE)):
        separate = str(settings.get("eval_dataset") or digest)
        return separate, settings.get("eval_dataset_config"), settings.get("eval_dataset_split")
    # Pairs are split alike in both versions; of demonstrations version 1 holds out other rows.
    strategy = strategy_in(settings)
    demonstrations = strategy is not None and strategy.data is DataForm.DEMONSTRATIONS
    version = receipt.get("split_version", 1) if demonstrations else None
    return digest, settings.get("eval_split"), settings.get("seed"), version


def _best(values: Sequence[float | None], more_is_better: bool) -> int | None:
    known = [value for value in values if value is not None]
    if len(known) < 2:  # noqa: PLR2004 - nothing to be better than
        return None
    best = (max if more_is_better else min)(known)
    return values.index(best) if known.count(best) == 1 else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
