"""What earlier runs on this machine measured: memory and speed, from their receipts."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_tui import paths
from dpo_tui.config.files import load
from dpo_tui.config.schema import Config
from dpo_tui.errors import DpoTuiError
from dpo_tui.hardware.memory.memory_estimate import GB, estimate
from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.hardware.models.lookup import architecture_of

_MOST_RECEIPTS = 60  # newest first; reading them all must not be felt


@dataclass(frozen=True)
class Measurement:
    """One finished run.

    Attributes:
        run: its id.
        device: the GPU's name, or "cpu".
        config: what it ran.
        parameters: of its model, 0 when unknown.
        tokens_per_second: of training, None when it was not logged.
        measured: bytes that the allocator held at most (the CUDA context not included); None on the CPU.
        estimated: bytes that today's estimate gives for the same, likewise without the context.
    """

    run: str
    device: str
    config: Config
    parameters: int
    tokens_per_second: float | None
    measured: int | None
    estimated: int | None


def measurements(runs: Path | None = None) -> list[Measurement]:
    """Read the newest receipts of finished runs; unreadable ones are passed over."""
    folder = runs or paths.runs()
    try:
        receipts = sorted(folder.glob("*/receipt.json"), key=lambda path: path.parent.name, reverse=True)
    except OSError:
        return []
    return [found for path in receipts[:_MOST_RECEIPTS] if (found := _read(path)) is not None]


def nearest(
    found: list[Measurement], config: Config, arch: Architecture, device: str | None, most: int = 3
) -> list[Measurement]:
    """The measurements most like a config, best first: same model, quantisation, method, batch and length.

    Args:
        found: measurements to choose from.
        config: the config in question.
        arch: its model.
        device: the GPU's name or "cpu", when only that device will do.
        most: how many to return.
    """
    alike = [one for one in found if device is None or one.device == device]
    return sorted(alike, key=lambda one: _distance(one, config, arch))[:most]


def _distance(one: Measurement, config: Config, arch: Architecture) -> float:
    """Doublings of size between two runs, plus one for each difference in kind."""
    other = one.config
    kinds = sum(
        getattr(other, name) != getattr(config, name)
        for name in ("use_4bit", "use_lora", "gradient_checkpointing", "strategy", "precompute_ref_log_probs")
    )
    ratios = [
        (one.parameters or 1) / arch.parameters,
        other.per_device_train_batch_size / config.per_device_train_batch_size,
        other.max_seq_length / config.max_seq_length,
    ]
    return float(kinds + sum(abs(math.log2(ratio)) for ratio in ratios))


def _read(path: Path) -> Measurement | None:
    try:
        receipt = json.loads(path.read_text(encoding="utf-8"))
        config = load(path.parent / "config.toml").config
    except (OSError, ValueError, DpoTuiError):
        return None
    if not isinstance(receipt, dict):
        return None
    metrics = _inner(_inner(receipt, "results"), "metrics")
    device = _inner(receipt, "device")
    speed, peak = _number(metrics.get("tokens_per_second")), _number(metrics.get("vram_peak_gb"))
    if speed is None and peak is None:
        return None
    parameters, estimated = 0, None
    try:
        arch = architecture_of(config.model_name)
        parameters = arch.parameters
        if peak is not None:
            whole = estimate(config, arch)
            estimated = whole.total - whole.part("cuda_context")
    except DpoTuiError:
        pass  # the model's folder is gone: its speed still tells something
    return Measurement(
        run=path.parent.name,
        device=str(device.get("name") or device.get("kind") or "cpu"),
        config=config,
        parameters=parameters,
        tokens_per_second=speed,
        measured=int(peak * GB) if peak is not None else None,
        estimated=estimated,
    )


def _inner(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key)
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
