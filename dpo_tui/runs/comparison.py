"""Comparison of several runs: settings that differ, and their results. Standard library only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dpo_tui.runs.atomic_files import read_json
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
_SEPARATE = ("eval_dataset", "eval_dataset_config", "eval_dataset_split")
"""Settings that name evaluation data which are no held-out part of the rows that are trained on."""


@dataclass(frozen=True)
class Comparison:
    """Runs side by side; every list is in the order of the runs.

    Attributes:
        runs: id, name, status and steps of each.
        settings: values by name, of the settings that are not the same in all.
        results: values by metric; None where a run has none.
        best: index of the best run by metric, where one is better.
        same_held_out: whether all were evaluated on the same pairs; None where that is not recorded.
    """

    runs: list[dict[str, Any]]
    settings: dict[str, list[Any]]
    results: dict[str, list[float | None]]
    best: dict[str, int]
    same_held_out: bool | None


def compare(folders: Sequence[RunFolder]) -> Comparison:
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
    best = {
        name: found
        for name, _, more in RESULTS
        if more is not None and name in results and (found := _best(results[name], more)) is not None
    }
    return Comparison(
        [_about(folder) for folder in folders], different, results, best, _same_held_out(folders, settings)
    )


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


def _same_held_out(folders: Sequence[RunFolder], settings: Sequence[dict[str, Any]]) -> bool | None:
    """Whether all runs held out the same pairs: one separate file, or the same data split the same way."""
    hashes, versions = [], []
    for folder, one in zip(folders, settings, strict=True):
        receipt = read_json(folder.receipt) or {}
        data = receipt.get("data")
        hashes.append(data.get("sha256") if isinstance(data, dict) else None)
        # Pairs are split alike in both versions; of demonstrations version 1 holds out other rows.
        strategy = strategy_in(one)
        demonstrations = strategy is not None and strategy.data is DataForm.DEMONSTRATIONS
        versions.append(receipt.get("split_version", 1) if demonstrations else None)
    keys = [
        (str(one.get("eval_dataset") or digest), one.get("eval_dataset_config"), one.get("eval_dataset_split"))
        if any(map(one.get, _SEPARATE))
        else (digest, one.get("eval_split"), one.get("seed"), version)
        for one, digest, version in zip(settings, hashes, versions, strict=True)
    ]
    if any(not one.get("eval_dataset") and not digest for one, digest in zip(settings, hashes, strict=True)):
        return None
    return len(set(keys)) == 1


def _best(values: Sequence[float | None], more_is_better: bool) -> int | None:
    known = [(value, place) for place, value in enumerate(values) if value is not None]
    if len(known) < 2 or len({value for value, _ in known}) == 1:  # noqa: PLR2004 - nothing to be better than
        return None
    return (max if more_is_better else min)(known)[1]


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
