"""From a config to a run that may start: everything that can be checked without torch is checked here, in a second.

The command line and the app start runs through this one door.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from dpo_tui import unsloth_environment
from dpo_tui.advice.settings import Advice, advise
from dpo_tui.config.files import LoadedConfig, local_paths, with_changes
from dpo_tui.config.schema import Config
from dpo_tui.config.toml_text import to_toml
from dpo_tui.data.demonstrations import load_demonstrations
from dpo_tui.data.from_config import evaluation_source, training_source
from dpo_tui.data.pairs import RowProblem
from dpo_tui.data.read import load_pairs
from dpo_tui.data.refused import without_refused
from dpo_tui.errors import ConfigError
from dpo_tui.hardware import nvml
from dpo_tui.hardware.auto import resolve_profile
from dpo_tui.hardware.gpu_choice import place
from dpo_tui.hardware.models import architecture_of
from dpo_tui.hardware.profiles import main_memory
from dpo_tui.hardware.vram import GB, DeviceKind, estimate
from dpo_tui.model_check import check_model
from dpo_tui.runs import store
from dpo_tui.runs.devices import DeviceRequest
from dpo_tui.runs.files import write_json_atomic
from dpo_tui.runs.folder import RunFolder
from dpo_tui.trackers import check_trackers


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start.

    Attributes:
        config: fully resolved: absolute paths, a profile's settings, a name.
        estimated_gb: GPU memory (main memory without a GPU) by part, in decimal gigabytes; empty where nobody can tell.
        devices: what the run needs for itself, such as ``gpu:0``; runs that need the same wait for each other.
        device_request: what it chooses its device from when its turn comes, where several would do.
        rows: rows in the data.
        usable: rows that can be used.
        dropped: the others, with the reason.
        notes: what the profile decided, and why.
        advice: what is allowed but unwise.
    """

    config: Config
    estimated_gb: dict[str, float]
    devices: tuple[str, ...]
    rows: int
    usable: int
    dropped: tuple[RowProblem, ...]
    notes: tuple[str, ...]
    advice: tuple[Advice, ...]
    device_request: DeviceRequest | None = None


def prepare(loaded: LoadedConfig, name: str | None = None) -> Prepared:
    """Check a config against this machine and its data.

    Args:
        loaded: the config; relative paths in it are tried from here, then from its file's folder.
        name: of the run, if not the config's.

    Raises:
        ConfigError: the model folder is incomplete, or the provider is not there.
        DataError: the data cannot be read or has no usable row.
    """
    changes = local_paths(loaded) | {"name": name or loaded.config.name or _name_from_model(loaded.config.model_name)}
    resolved = with_changes(loaded, changes, "command line")
    check_trackers(resolved.config.report_to)
    check_model(resolved.config.model_name, resolved.config.model_revision)
    total, usable, dropped = _read_data(resolved.config)
    config, devices, request, notes = _placed(resolved)
    has_gpu = bool(devices) or request is not None
    _check_provider(config, has_gpu=has_gpu)
    memory = _estimated_gb(config, "cuda" if has_gpu else "cpu")
    return Prepared(config, memory, devices, total, usable, dropped, tuple(notes), tuple(advise(config)), request)


def create_run(prepared: Prepared, after: str | None = None) -> RunFolder:
    """Make the run's folder; nothing starts yet.

    Args:
        prepared: what to run.
        after: id of a run that must end first.
    """
    # The frozen config is for readers who do not know our defaults: alpha stands in it, too.
    config = prepared.config.model_copy(update={"lora_alpha": prepared.config.alpha})
    folder = store.create(
        to_toml(config),
        name=config.name or "",
        devices=list(prepared.devices),
        device_request=prepared.device_request,
        after=after,
        python=str(unsloth_environment.interpreter()) if config.provider == "unsloth" else None,
    )
    if prepared.estimated_gb:
        write_json_atomic(folder.estimate, prepared.estimated_gb)
    return folder


def _name_from_model(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model).name).strip("-")[:64] or "run"


def _read_data(config: Config) -> tuple[int, int, tuple[RowProblem, ...]]:
    separate = evaluation_source(config)
    if config.strategy == "sft":
        demonstrations = load_demonstrations(training_source(config))
        if separate is not None:
            load_demonstrations(separate)
        return demonstrations.total, len(demonstrations.rows), tuple(demonstrations.dropped)
    pairs = load_pairs(training_source(config))
    kept, refused = without_refused(pairs.pairs, config, download=False)
    if separate is not None:
        without_refused(load_pairs(separate).pairs, config, download=False)
    return pairs.total, len(kept), (*pairs.dropped, *refused)


def _placed(loaded: LoadedConfig) -> tuple[Config, tuple[str, ...], DeviceRequest | None, tuple[str, ...]]:
    """Work the profile in; return the config, the devices that the run needs or chooses from, and the reasons."""
    config = loaded.config
    if config.gpus == "none" and config.profile == "none":
        return config, (), None, ()
    inventory, ram = nvml.read(), main_memory()
    profile = resolve_profile(config, loaded.origins.keys(), inventory, ram=ram)
    placement = place(profile.config, inventory, ram, os.environ)
    request = DeviceRequest(placement.candidates, memory=placement.memory) if placement.candidates else None
    return profile.config, placement.devices, request, (*profile.reasons, *placement.notes)


def _check_provider(config: Config, *, has_gpu: bool) -> None:
    if config.provider != "unsloth":
        return
    found = unsloth_environment.obstacle(has_gpu=has_gpu)
    if found is not None:
        raise ConfigError(f'provider = "unsloth": {found.message}', hint=found.fix)


def _estimated_gb(config: Config, device: DeviceKind) -> dict[str, float]:
    try:
        architecture = architecture_of(config.model_name, config.model_revision)
    except ConfigError:
        return {}
    memory = estimate(config, architecture, device=device)
    return {"total": memory.total / GB} | {part.key: part.size / GB for part in memory.parts}
