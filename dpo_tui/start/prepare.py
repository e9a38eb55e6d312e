"""Checks before a run starts, and the creation of its folder: config → model, data, GPU, provider → run folder.

The command line and the app both prepare and resume runs through this module; :mod:`dpo_tui.runs.start_run` starts
them. Everything that can be checked without torch is checked here, in about a second; a hardware profile fills in what
the file leaves open. :func:`prepare` checks one config, :func:`prepare_stages` those of one command, of which each may
start from the model of the one before it.

:func:`create_run` freezes the resolved settings as ``config.toml`` in the run's folder. Launcher and supervisor then
hand on that folder's path, and no setting but the batch sizes of an out-of-memory retry. Next:
:mod:`dpo_tui.train.__main__`, which reads the file again.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpo_tui.advice.config_rules import Advice, advise
from dpo_tui.config.files import LoadedConfig, load, local_paths, with_changes
from dpo_tui.config.passthrough import require_passthrough
from dpo_tui.config.schema import SECTIONS, Config
from dpo_tui.config.toml_text import to_toml
from dpo_tui.data.changed_data import file_change
from dpo_tui.data.load_split import require_held_out
from dpo_tui.data.pairs.pair import RowProblem
from dpo_tui.data.tokens.template_findings import TemplateFinding
from dpo_tui.errors import ConfigError, RunError, UsageError
from dpo_tui.hardware import nvml
from dpo_tui.hardware.apply_profile import resolve_profile
from dpo_tui.hardware.gpu_choice import placement_for, recommend
from dpo_tui.hardware.job_gpu import job_inventory
from dpo_tui.hardware.memory.memory_estimate import GB, DeviceKind, estimate
from dpo_tui.hardware.models.lookup import architecture_of
from dpo_tui.hardware.parallelism import with_chosen_parallelism
from dpo_tui.hardware.profiles import main_memory
from dpo_tui.hardware.requested_gpus import with_counted_gpus
from dpo_tui.runs import control_requests, start_run
from dpo_tui.runs.atomic_files import read_json, write_text_atomic
from dpo_tui.runs.complete_checkpoints import newest_complete
from dpo_tui.runs.devices import DeviceRequest
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.frozen_config import read_settings
from dpo_tui.runs.frozen_run import FrozenRun, create_frozen
from dpo_tui.runs.merged_start import MergedStart
from dpo_tui.runs.status import status_of
from dpo_tui.runs.trackers import check_trackers
from dpo_tui.runs.weights_only_checkpoints import resume_refusal
from dpo_tui.start.adapter_start import is_adapter, merged_model
from dpo_tui.start.checked_rows import CheckedRows
from dpo_tui.start.earlier_run_model import PREVIOUS, ProgressCallback, is_earlier_run, model_of
from dpo_tui.start.model_check import check_model, check_next_stage, trusted
from dpo_tui.start.providers.registry import provider_of
from dpo_tui.start.reference_model import check_reference, with_resolved_reference
from dpo_tui.start.resources import launcher_name, resource_change
from dpo_tui.start.slurm_check import check_launcher


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start.

    Attributes:
        config: fully resolved: absolute paths, a profile's settings, a name.
        estimated_gb: GPU memory (main memory without a GPU) by part, in decimal gigabytes; empty where it
            cannot be estimated.
        devices: devices that the run names, such as ``gpu:0``; runs that name the same one wait for each other.
        device_request: candidates among which the supervisor chooses when one is free, where several would do.
        rows: rows in the data.
        usable: rows that can be used.
        held_out: how many of these are held out, where they are a part of the same data.
        dropped: rows that cannot be used, with the reason.
        notes: settings that the profile chose, and why.
        advice: what is allowed but unwise.
        model_notes: what is unusual about the model and may be right, in sentences.
        template: what is wrong with the text that the chat template makes of the rows.
        launcher_notes: what is unusual about where it will run, in sentences.
        data_notes: what was assumed about the data's files as a whole, such as their encoding.
        follows: whether it starts from the model of the stage before it, which does not exist yet. Until the run's
            folder is made, ``config`` names a model of the same shape instead.
    """

    config: Config
    estimated_gb: dict[str, float]
    devices: tuple[str, ...]
    rows: int
    usable: int
    held_out: int
    dropped: tuple[RowProblem, ...]
    notes: tuple[str, ...]
    advice: tuple[Advice, ...]
    template: tuple[TemplateFinding, ...] = ()
    device_request: DeviceRequest | None = None
    model_notes: tuple[str, ...] = ()
    follows: bool = False
    data_notes: tuple[str, ...] = ()
    launcher_notes: tuple[str, ...] = ()


def prepare(
    loaded: LoadedConfig,
    name: str | None = None,
    *,
    before: Prepared | None = None,
    rows: CheckedRows | None = None,
    report: ProgressCallback = lambda message: None,
) -> Prepared:
    """Check a config against this machine and its data.

    Args:
        loaded: the config; relative paths in it are tried from here, then from its file's folder. Its ``model_name``
            may be ``run:ID``, the model of a run that is done, ``previous``, that of ``before``, or an adapter's
            folder.
        name: of the run, if not the config's.
        before: the stage before it in the same command.
        rows: keeps what was read, for the other configs of a group.
        report: called with the progress of a merge, where the model is an adapter, or that of an earlier run.

    Raises:
        UsageError: the config starts from a previous stage, and there is none.
        RunNotFoundError: it starts from a run that does not exist.
        RunError: it starts from a run that has no result.
        ConfigError: Slurm does not take it, the model folder is incomplete, its tokenizer has nothing to pad with, the
            reference has other tokens, the provider or a tracker is not installed, or the config passes on what a
            library does not take.
        DataError: the data cannot be read, has no usable row, or none that fits.
    """
    follows = loaded.config.model_name == PREVIOUS
    with_model = with_resolved_reference(_with_resolved_model(loaded, before, report), report)
    changes = local_paths(with_model) | {
        "name": name or with_model.config.name or _name_from_model(_named_model(with_model.config.model_name))
    }
    resolved = with_changes(with_model, changes, "command line")
    if (code := trusted(resolved.config).trust_remote_code) != resolved.config.trust_remote_code:
        resolved = with_changes(resolved, {"trust_remote_code": code}, "command line")
    check_trackers(resolved.config.report_to)
    require_passthrough(resolved)
    launcher_notes = check_launcher(resolved.config)
    may_use_gpu = resolved.config.gpus != "none" and bool(_inventory(resolved.config).gpus)
    # The model of the stage before it has been checked, and is another one by then: merged, and not quantised.
    merged = MergedStart.of(resolved.config.model_name)
    model_notes = [] if follows else check_model(resolved.config, has_gpu=may_use_gpu)
    reference_notes = check_reference(resolved.config, has_gpu=may_use_gpu)
    split, template = (rows or CheckedRows()).of(resolved.config)
    require_held_out(resolved.config, len(split.held_out))
    config, devices, request, notes = _with_profile_and_devices(resolved)
    if config.use_4bit != resolved.config.use_4bit and not follows:
        model_notes = check_model(config, has_gpu=may_use_gpu)
    has_gpu = bool(devices) or request is not None or (config.launcher == "slurm" and may_use_gpu)
    provider_of(config).check(has_gpu=has_gpu)
    return Prepared(
        config,
        _estimated_gb(config, "cuda" if has_gpu else "cpu"),
        devices,
        rows=split.total,
        usable=split.usable,
        held_out=0 if config.has_evaluation_data else len(split.held_out),
        dropped=tuple(split.dropped),
        notes=tuple(notes),
        advice=tuple(advise(config)),
        template=template,
        device_request=request,
        model_notes=(*([merged.sentence()] if merged else []), *model_notes, *reference_notes),
        follows=follows,
        data_notes=split.notes,
        launcher_notes=launcher_notes,
    )


def prepare_stages(
    loaded: Sequence[LoadedConfig], name: str | None = None, report: ProgressCallback = lambda message: None
) -> list[Prepared]:
    """Check the configs of one command, in the order in which they are to run; see :func:`prepare`."""
    stages: list[Prepared] = []
    for one in loaded:
        stages.append(prepare(one, name, before=stages[-1] if stages else None, report=report))
        if stages[-1].follows:
            check_next_stage(stages[-2].config)
    return stages


def create_run(prepared: Prepared, after: str | None = None) -> RunFolder:
    """Make the run's folder; nothing starts yet.

    Args:
        prepared: what to run.
        after: id of a run that must end first.
    """
    return create_frozen(frozen(prepared), prepared.config.name or "", after=after)


def frozen(prepared: Prepared) -> FrozenRun:
    """Freeze a run that has been checked: what its folder is made of, now or later."""
    # The frozen config must not depend on defaults of this version: alpha, which follows the rank, is written out.
    config = prepared.config.model_copy(update={"lora_alpha": prepared.config.alpha})
    interpreter = provider_of(config).interpreter()
    return FrozenRun(
        to_toml(config),
        prepared.devices,
        prepared.device_request,
        python=str(interpreter) if interpreter else None,
        launcher=launcher_name(config),
        ranks=config.world_size,
        estimated_gb=prepared.estimated_gb,
    )


def create_stages(stages: Sequence[Prepared]) -> list[RunFolder]:
    """Make the folders of :func:`prepare_stages`, each run to start after the one before it; nothing starts yet."""
    folders: list[RunFolder] = []
    for index, stage in enumerate(stages):
        changes: dict[str, object] = {}
        if index + 1 < len(stages) and stages[index + 1].follows and stage.config.use_lora:
            changes["merge_at_end"] = True
        if stage.follows:
            changes |= {"model_name": str(folders[-1].merged), "model_revision": None}
        config = stage.config.model_copy(update=changes)
        folders.append(create_run(replace(stage, config=config), after=folders[-1].id if folders else None))
    return folders


def resume(
    folder: RunFolder, *, accept_changed_data: bool = False, changes: Mapping[str, Any] | None = None
) -> start_run.Resumed:
    """Resume a run from its newest checkpoint, unless its data has changed since it began.

    Local files are compared here, before a worker starts; the worker compares what it reads in any case.

    Args:
        folder: the run.
        accept_changed_data: continue with changed data; the receipt records it.
        changes: other GPUs or another number of processes, as settings of [compute]; or what its next job asks for,
            such as more memory, as settings of [slurm].

    Raises:
        DataError: its data has changed or is gone.
        ConfigError: GPUs are asked for that are not there, or what Slurm does not take.
        UsageError: another setting is to change, or the processes cannot share the effective batch.
        RunError: it is running, or done, its checkpoints hold weights alone, or someone else resumed it at the same
            time.
    """
    changes = changes or {}
    _require_resumable(folder)
    job_changes = {name: value for name, value in changes.items() if name in SECTIONS["slurm"].model_fields}
    resources = resource_change(folder, {name: value for name, value in changes.items() if name not in job_changes})
    if job_changes:
        _change_job(folder, job_changes)
    if accept_changed_data:
        control_requests.accept_changed_data(folder)
    elif folder.receipt.exists() and not status_of(folder).live:
        change = file_change(read_json(folder.receipt), load(folder.config).config)
        if change is not None:
            raise change.error(folder.id)
    try:
        return start_run.resume(folder, change=resources)
    except RunError:
        control_requests.clear(folder, control_requests.ACCEPT_CHANGED_DATA)
        raise


def _require_resumable(folder: RunFolder) -> None:
    if not read_settings(folder.config).get("save_only_model") or status_of(folder).live:
        return
    refusal = resume_refusal(newest_complete(folder.checkpoints)[0])
    if refusal is not None:
        raise RunError(f"run {folder.id} cannot be resumed: {refusal[0]}", hint=refusal[1])


def _change_job(folder: RunFolder, changes: Mapping[str, Any]) -> None:
    """Change what the next job of a run asks Slurm for, in its config.toml."""
    changed = with_changes(load(folder.config), changes, "command line").config
    if changed.launcher != "slurm":
        raise UsageError(f"run {folder.id} is no job: its config has launcher = {changed.launcher!r}")
    check_launcher(changed)
    status = status_of(folder)
    if status.live:
        raise RunError(f"run {folder.id} is {status.status}: it cannot be resumed meanwhile")
    write_text_atomic(folder.config, to_toml(changed))


def _name_from_model(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model).name).strip("-")[:64] or "run"


def _named_model(model: str) -> str:
    """The model that a run without a name is named after: an adapter itself, not the folder that it is merged into."""
    merged = MergedStart.of(model)
    return model if merged is None else merged.adapter


def _with_resolved_model(loaded: LoadedConfig, before: Prepared | None, report: ProgressCallback) -> LoadedConfig:
    """Replace ``run:ID``, ``previous`` or an adapter by the model folder that it means."""
    name = loaded.config.model_name
    if not is_earlier_run(name):
        at = with_changes(loaded, local_paths(loaded), loaded.origin("model_name")).config
        if not is_adapter(at.model_name):
            return loaded
        model = merged_model(at, report)
    elif name != PREVIOUS:
        model = model_of(name, report)
    elif before is not None:
        model = before.config.model_name  # of the same shape, which is all that the checks and the estimate need
    else:
        raise UsageError(
            f'model_name = "{PREVIOUS}": there is no config before this one',
            hint='give both: dpo-tui train sft.toml dpo.toml; or name a run that is done: model_name = "run:ID"',
        )
    return with_changes(loaded, {"model_name": model, "model_revision": None}, loaded.origin("model_name"))


def _with_profile_and_devices(
    loaded: LoadedConfig,
) -> tuple[Config, tuple[str, ...], DeviceRequest | None, tuple[str, ...]]:
    """Apply the profile and choose the GPU.

    Returns:
        The config, the devices that it names, the request to choose from candidates, and the reasons in words.
    """
    config = loaded.config
    if config.gpus == "none" and config.profile == "none":
        return config, (), None, ()
    inventory, ram = _inventory(config), main_memory()
    if config.launcher == "slurm":  # which chooses the GPUs
        config = with_counted_gpus(config, inventory, {})
        described = recommend(inventory, ram, {}, gpus=config.gpus, count=config.node_processes)
        job = resolve_profile(config, loaded.origins.keys(), inventory, ram=ram, machine_profile=described)
        config, why = with_chosen_parallelism(job.config, described.total)
        return config, (), None, (*job.reasons, *why)
    config = with_counted_gpus(config, inventory)
    profile = resolve_profile(config, loaded.origins.keys(), inventory, ram=ram)
    smallest = recommend(inventory, ram, gpus=config.gpus, count=config.node_processes).total
    config, why = with_chosen_parallelism(profile.config, smallest)
    placement = placement_for(config, inventory, ram, os.environ)
    request = DeviceRequest(placement.candidates, placement.count, placement.memory) if placement.candidates else None
    return config, placement.devices, request, (*profile.reasons, *why, *placement.notes, *inventory.notes)


def _inventory(config: Config) -> nvml.Inventory:
    """The GPUs that the run may use: of this machine, or of its job as the config describes them."""
    return job_inventory(config) if config.launcher == "slurm" else nvml.read()


def _estimated_gb(config: Config, device: DeviceKind) -> dict[str, float]:
    try:
        architecture = architecture_of(config.model_name, config.model_revision)
    except ConfigError:
        return {}
    memory = estimate(config, architecture, device=device)
    return {"total": memory.total / GB} | {part.key: part.size / GB for part in memory.parts}
