"""Resume a run on other GPUs, or on another number of processes: what the user asks for, checked against this machine.

The effective batch stays: accumulation changes with the number of processes.
"""

import os
from collections.abc import Mapping
from typing import Any

from dpo_tui.config.files import from_values, load
from dpo_tui.config.schema import Config
from dpo_tui.errors import UsageError
from dpo_tui.hardware import nvml
from dpo_tui.hardware.gpu_choice import placement_for
from dpo_tui.hardware.profiles import main_memory
from dpo_tui.hardware.requested_gpus import with_counted_gpus
from dpo_tui.runs.devices import DeviceRequest
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.out_of_memory_retry import MicroBatch
from dpo_tui.runs.resource_change import ResourceChange, batch_on
from dpo_tui.runs.state import read_state

CHANGEABLE = ("gpus", "gpu_count", "ranks")
"""Settings that may differ in a resumed run; every other would make it another training."""


def resource_change(folder: RunFolder, changes: Mapping[str, Any]) -> ResourceChange | None:
    """Return what a run resumes on; None where that is what it had.

    Args:
        folder: the run.
        changes: settings of [compute] by name; those left out are the run's own, or the default where they would
            contradict the new ones.

    Raises:
        UsageError: a setting is not one of `CHANGEABLE`, or so many processes cannot share the effective batch.
        ConfigError: the machine does not have the GPUs.
    """
    state = read_state(folder)
    if not changes or state is None:
        return None
    other = next((name for name in changes if name not in CHANGEABLE), None)
    if other is not None:
        raise UsageError(
            f"--set {other}: a run resumes with its own settings; only {', '.join(CHANGEABLE)} may change",
            hint=f"to train with another {other}, start a new run from a copy of {folder.config}",
        )
    config = load(folder.config).config
    if config.launcher == "slurm":
        raise UsageError(
            f"--set {next(iter(changes))}: the job of a run keeps the number of its processes and GPUs",
            hint=f"start a new run from a copy of {folder.config}; only what a job asks for in [slurm] may change",
        )
    values = {name: value for name, value in config.model_dump().items() if name not in CHANGEABLE}
    kept: dict[str, Any] = {} if "gpus" in changes else {"gpus": config.gpus}
    if not {"ranks", "gpu_count"} & changes.keys() and "gpus" not in changes:
        kept |= {"ranks": config.ranks, "gpu_count": config.gpu_count}
    # One process holds the whole model: FSDP2 has nothing to divide there, and its settings are refused.
    sharding = {"distributed": config.distributed, "cpu_offload": config.cpu_offload}
    undivided = {"distributed": "auto", "cpu_offload": False} if config.distributed == "fsdp2" else {}
    config = from_values({**values, **undivided, **kept, **changes}, "resume")
    inventory = nvml.read() if config.gpus != "none" else nvml.Inventory()
    config = with_counted_gpus(config, inventory)
    if config.world_size > 1:
        config = from_values({**config.model_dump(), **sharding}, "resume")
    before = MicroBatch(
        state.per_device_train_batch_size or config.per_device_train_batch_size,
        state.gradient_accumulation_steps or config.gradient_accumulation_steps,
    )
    batch = batch_on(config.world_size, before, state.ranks)
    placement = placement_for(config, inventory, main_memory(), os.environ)
    request = None
    if placement.candidates:
        request = DeviceRequest(placement.candidates, placement.count, placement.memory)
    return ResourceChange(
        config.world_size,
        launcher_name(config),
        list(placement.devices),
        request,
        batch.micro,
        batch.accumulation,
    )


def launcher_name(config: Config) -> str:
    """Return the launcher of a config's run: torchrun for several processes on this machine, else the one it names."""
    return "torchrun" if config.launcher == "local" and config.world_size > 1 else config.launcher
