"""Memory and throughput that earlier runs on this machine measured, read from their receipts."""

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
from dpo_tui.hardware.models.quantised import quantisation_while_loading
from dpo_tui.runs.typed_documents import fits_number
from dpo_tui.text.plain_documents import parse_json

_MOST_RECEIPTS = 60
"""The newest receipts that are read; reading many would delay the estimate noticeably."""


@dataclass(frozen=True)
class Measurement:
    """The measurements of one finished run.

    Attributes:
        run: its id.
        device: the GPU's name, or "cpu".
        config: its settings.
        parameters: of its model, 0 when unknown.
        active_parameters: those that one token passes through, 0 when unknown.
        tokens_per_second: of training; None when it was not logged.
        measured: peak bytes of PyTorch's allocator, without the CUDA context; None on the CPU.
        estimated: the same by the present estimate; None when it cannot be estimated.
        gpus: how many of the device trained together; 1 for the CPU, whose cores all processes share.
    """

    run: str
    device: str
    config: Config
    parameters: int
    active_parameters: int
    tokens_per_second: float | None
    measured: int | None
    estimated: int | None
    gpus: int = 1


def measurements(runs: Path | None = None) -> list[Measurement]:
    """Read the newest receipts of finished runs, skipping unreadable ones.

    Args:
        runs: the folder of run folders; the user's by default.
    """
    folder = runs or paths.runs()
    try:
        receipts = sorted(folder.glob("*/receipt.json"), key=lambda path: path.parent.name, reverse=True)
    except OSError:
        return []
    return [one for path in receipts[:_MOST_RECEIPTS] if (one := _read_measurement(path)) is not None]


def nearest(
    earlier: list[Measurement], config: Config, arch: Architecture, device: str | None, most: int = 3
) -> list[Measurement]:
    """The measurements most like a config, best first: same model, quantisation, method, batch and length.

    Args:
        earlier: measurements to choose from.
        config: the config to compare with.
        arch: its model.
        device: name of a GPU or "cpu" to choose measurements of that device only; None for any.
        most: how many to return.
    """
    on_device = [one for one in earlier if device is None or one.device == device]
    return sorted(on_device, key=lambda one: _distance(one, config, arch))[:most]


def _distance(one: Measurement, config: Config, arch: Architecture) -> float:
    """Distance of a run to a config: sum of |log2| of their ratios of size, plus 1 for each setting that differs."""
    other = one.config
    # A doubling of model, batch or length counts as much as one setting that changes which tensors exist.
    kinds = sum(
        getattr(other, name) != getattr(config, name)
        for name in ("use_lora", "gradient_checkpointing", "strategy", "precompute_ref_log_probs")
    )
    ratios = [
        (one.parameters or 1) / arch.parameters,
        other.per_device_train_batch_size / config.per_device_train_batch_size,
        other.max_seq_length / config.max_seq_length,
    ]
    kinds += quantisation_while_loading(other) != quantisation_while_loading(config)
    return float(kinds + sum(abs(math.log2(ratio)) for ratio in ratios))


def _read_measurement(path: Path) -> Measurement | None:
    try:
        receipt = parse_json(path.read_bytes())
        config = load(path.parent / "config.toml").config
    except (OSError, ValueError, DpoTuiError):
        return None
    if not isinstance(receipt, dict):
        return None
    metrics = _mapping_at(_mapping_at(receipt, "results"), "metrics")
    device = _mapping_at(receipt, "device")
    speed, peak = _number(metrics.get("tokens_per_second")), _number(metrics.get("vram_peak_gb"))
    if speed is None and peak is None:
        return None
    parameters, active, estimated = 0, 0, None
    try:
        arch = architecture_of(config.model_name)
        parameters, active = arch.parameters, arch.active_parameters
        if peak is not None:
            whole = estimate(config, arch)
            estimated = whole.total - whole.part("cuda_context")
    except DpoTuiError:
        pass  # the model's folder is gone; the throughput is still of use
    return Measurement(
        run=path.parent.name,
        device=str(device.get("name") or device.get("kind") or "cpu"),
        config=config,
        parameters=parameters,
        active_parameters=active,
        tokens_per_second=speed,
        measured=int(peak * GB) if peak is not None else None,
        estimated=estimated,
        gpus=int(_number(receipt.get("ranks")) or 1) if device.get("kind") == "cuda" else 1,
    )


def _mapping_at(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under a key; empty where there is none."""
    value = document.get(key)
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    return float(value) if fits_number(value) and value > 0 else None
