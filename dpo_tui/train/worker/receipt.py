"""receipt.json, the provenance of a run: versions, command line, device, data with checksums, shortcuts, results."""

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

import dpo_tui
from dpo_tui.config.schema import PASSTHROUGH, Config
from dpo_tui.data.load_split import SPLIT_VERSION
from dpo_tui.processes.timed_call import TimedCall
from dpo_tui.runs.atomic_files import read_json, write_json_atomic
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.merged_start import MergedStart
from dpo_tui.runs.start_run import ARGV_VARIABLE
from dpo_tui.train.model.device import TrainingDevice

_DRIVER_DEADLINE = 10.0
"""Seconds to wait for the driver to tell its version: a receipt is no reason to hold a training."""
_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes", "tokenizers", "unsloth")


@dataclass(frozen=True)
class DataUsed:
    """The rows that a run trained and evaluated on, as receipt.json lists them.

    Attributes:
        location: of the dataset.
        sha256: of the file's bytes; empty for data that is not one file.
        format: as it was recognised.
        rows: found in the data.
        unusable: rows that could not be read as pairs, or that the chat template does not take.
        too_long: pairs that TRL dropped because the prompt alone fills max_seq_length.
        answers_cut: training pairs of which an answer is cut at max_seq_length.
        chosen_longer: training pairs whose chosen answer has more tokens than the rejected one.
        train: pairs trained on.
        held_out: pairs evaluated on.
        held_out_sha256: of a separate evaluation file's bytes; empty without one.
        notes: what was assumed about the files as a whole, such as their encoding.
        sources: where the dataset is a list: location, rows, usable rows, rows used, and weight of each.
        reading: digest of the rows as they were read: another one with the same checksums means other pairs.
    """

    location: str
    sha256: str
    format: str
    rows: int
    unusable: int
    too_long: int
    train: int
    held_out: int
    answers_cut: int = 0
    chosen_longer: int = 0
    held_out_sha256: str = ""
    notes: tuple[str, ...] = ()
    sources: list[dict[str, Any]] = field(default_factory=list)
    reading: str = ""


def write_receipt(
    folder: RunFolder,
    config: Config,
    device: TrainingDevice,
    data: DataUsed,
    results: dict[str, Any],
    *,
    shortcuts: dict[str, Any] | None = None,
    split_version: int = SPLIT_VERSION,
    data_changes: Sequence[dict[str, Any]] = (),
) -> None:
    """Write the receipt; without results when training starts, with them when it has ended.

    Args:
        folder: of the run.
        config: the run's settings.
        device: on which the run trains.
        data: on which the run trains.
        results: steps and last metrics; empty before the end.
        shortcuts: which were taken, why or why not, and what they saved.
        split_version: of the split into training and held-out rows.
        data_changes: the data that the run trained on before, where a resume on changed data was accepted.
    """
    start = MergedStart.of(config.model_name)
    passed_on = {table: getattr(config, table) for table in PASSTHROUGH if getattr(config, table)}
    write_json_atomic(
        folder.receipt,
        {
            "version": 1,
            "t": time.time(),
            "dpo_tui": dpo_tui.__version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": {name: _version(name) for name in _PACKAGES},
            "argv": _argv(),
            "device": {"kind": device.kind, "precision": device.precision, **_gpu()},
            "model": config.model_name,
            **({"reference": _reference(config)} if config.ref_model else {}),
            **({"start": vars(start)} if start is not None else {}),
            "data": vars(data),
            "split_version": split_version,
            **({"data_changes": list(data_changes)} if data_changes else {}),
            "effective_batch": config.effective_batch,
            "ranks": config.world_size,
            **({"passed_on": passed_on} if passed_on else {}),
            "memory_gb": {
                "estimated": (read_json(folder.estimate) or {}).get("total"),
                "measured": results.get("metrics", {}).get("vram_peak_gb"),
            },
            "shortcuts": shortcuts or {},
            "results": results,
        },
    )


def _reference(config: Config) -> dict[str, Any]:
    """The reference that the config names: where it is, and what it was merged from."""
    merged = MergedStart.of(config.ref_model or "")
    return {
        "model": config.ref_model,
        "revision": config.ref_model_revision,
        **({"merged_from": vars(merged)} if merged is not None else {}),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _argv() -> list[str]:
    """Return the command line with which the user started the run, which the launch passes on to the worker."""
    try:
        return [str(argument) for argument in json.loads(os.environ[ARGV_VARIABLE])]
    except (KeyError, ValueError, TypeError):
        return sys.argv


def _gpu() -> dict[str, Any]:
    if not torch.cuda.is_available():
        return {}
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "memory_gb": properties.total_memory / 1e9,
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "driver": _driver_version(),
    }


def _driver_version() -> str | None:
    try:
        return TimedCall("nvml", _DRIVER_DEADLINE)(_nvml_driver_version)
    except Exception:  # NVML has its own exceptions, ctypes raises others without the library, and a driver may hang
        return None


def _nvml_driver_version() -> str:
    import pynvml

    pynvml.nvmlInit()
    text = pynvml.nvmlSystemGetDriverVersion()
    pynvml.nvmlShutdown()
    return text.decode() if isinstance(text, bytes) else str(text)
