"""`estimate`: will this run fit, what would make it fit, and how long does it take."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dpo_tui.cli.estimate_text import lines
from dpo_tui.cli.output import narrate, print_json
from dpo_tui.config.files import LoadedConfig, load, parse_assignment
from dpo_tui.config.schema import Config
from dpo_tui.data.pair_sizes import PairSizes, pair_sizes
from dpo_tui.errors import RunError, UsageError
from dpo_tui.hardware import nvml
from dpo_tui.hardware.architecture import Architecture
from dpo_tui.hardware.auto import resolve_profile
from dpo_tui.hardware.duration import Duration, Steps, duration_of, steps_of
from dpo_tui.hardware.fit import Change, Verdict, changes_to_fit, in_gigabytes, verdict_of
from dpo_tui.hardware.history import Measurement, measurements, nearest
from dpo_tui.hardware.models import architecture_of, local_files
from dpo_tui.hardware.profiles import Profile, main_memory, recommend
from dpo_tui.hardware.vram import GB, DeviceKind, MemoryEstimate
from dpo_tui.hardware.vram import estimate as estimate_memory
from dpo_tui.hardware.words import band_note

_MOST_VRAM_GB = 10_000


@dataclass(frozen=True)
class Answer:
    """Everything that `estimate` tells.

    Attributes:
        device: "cuda", or "cpu" where main memory is meant.
        device_name: of the GPU; None when only its memory was given.
        gpu: its index.
        free: bytes to compare with; None when unknown.
        reasons: what ``profile`` decided, in words.
    """

    config: Config
    arch: Architecture
    device: DeviceKind
    device_name: str | None
    gpu: int | None
    free: int | None
    memory: MemoryEstimate
    verdict: Verdict
    changes: list[Change]
    sizes: PairSizes
    steps: Steps | None
    duration: Duration | None
    earlier: list[Measurement]
    reasons: tuple[str, ...]


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--vram", type=float, metavar="GB", help="Compare with so much free GPU memory instead of this machine's."
)
@click.option(
    "--set", "assignments", multiple=True, metavar="K=V", help="Change a setting; may be given several times."
)
@click.option("--probe", is_flag=True, help="Run one real step on the GPU and compare it with the estimate.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def estimate(config: Path, vram: float | None, assignments: tuple[str, ...], probe: bool, as_json: bool) -> None:
    """Say how much memory a run takes, part by part, whether it fits, and what to change; steps and time."""
    if vram is not None and not (math.isfinite(vram) and 0 < vram <= _MOST_VRAM_GB):
        raise UsageError(f"--vram {vram:g}: must be a number of gigabytes above 0", hint="for example: --vram 12")
    loaded = load(config, dict(parse_assignment(text) for text in assignments))
    answer = _answer(loaded, vram)
    if probe:
        _probe(config, assignments, answer, as_json=as_json)
    elif as_json:
        print_json(_document(answer))
    else:
        click.echo("\n".join(lines(answer)))


def _answer(loaded: LoadedConfig, vram: float | None) -> Answer:
    config = _located(loaded)
    inventory = nvml.read() if config.gpus != "none" else nvml.Inventory()
    if config.gpus.isdigit():
        inventory = nvml.Inventory(
            tuple(gpu for gpu in inventory.gpus if gpu.index == int(config.gpus)), inventory.fault
        )
    profile = recommend(inventory, main_memory())
    resolved = resolve_profile(config, set(loaded.origins), inventory, found=_given(profile, vram))
    config = resolved.config
    arch = architecture_of(config.model_name, config.model_revision)
    if vram is not None:
        return _counted(config, arch, device="cuda", name=None, gpu=None, free=int(vram * GB), reasons=resolved.reasons)
    if profile.gpu is None:
        return _counted(config, arch, device="cpu", name="cpu", gpu=None, free=profile.free, reasons=resolved.reasons)
    name = next(gpu.name for gpu in inventory.gpus if gpu.index == profile.gpu)
    return _counted(
        config, arch, device="cuda", name=name, gpu=profile.gpu, free=profile.free, reasons=resolved.reasons
    )


def _counted(
    config: Config,
    arch: Architecture,
    *,
    device: DeviceKind,
    name: str | None,
    gpu: int | None,
    free: int | None,
    reasons: tuple[str, ...],
) -> Answer:
    sizes = pair_sizes(config, local_files(config.model_name, config.model_revision))
    memory = estimate_memory(config, arch, device=device, longest=sizes.longest)
    steps = steps_of(config, sizes.rows, sizes.tokens_per_pair)
    earlier = measurements()
    changes = [] if free is None else changes_to_fit(config, arch, free, device=device, longest=sizes.longest)
    measured = [one for one in earlier if one.measured is not None]
    return Answer(
        config=config,
        arch=arch,
        device=device,
        device_name=name,
        gpu=gpu,
        free=free,
        memory=memory,
        verdict=verdict_of(memory.total, free),
        changes=changes,
        sizes=sizes,
        steps=steps,
        duration=duration_of(config, arch, steps.tokens if steps else None, name or "", earlier),
        earlier=nearest(measured, config, arch, None) if device == "cuda" else [],
        reasons=reasons,
    )


def _given(profile: Profile, vram: float | None) -> Profile | None:
    """With ``--vram`` the profile is chosen for a card of that size instead of this machine's."""
    if vram is None:
        return profile
    size = int(vram * GB)
    card = nvml.Gpu(index=0, name=f"a card with {vram:g} GB", memory_total=size, memory_free=size)
    return recommend(nvml.Inventory((card,)), main_memory(), {})


def _located(loaded: LoadedConfig) -> Config:
    """Local paths made absolute: tried from here, then from the config file's folder."""
    folders = [Path.cwd(), *([loaded.path.absolute().parent] if loaded.path else [])]
    found: dict[str, Any] = {}
    for field in ("model_name", "dataset"):
        value = Path(getattr(loaded.config, field)).expanduser()
        existing = next((folder / value for folder in folders if (folder / value).exists()), None)
        if existing is not None:
            found[field] = str(existing)
    return loaded.config.model_copy(update=found)


def _document(answer: Answer) -> Mapping[str, Any]:
    duration, steps = answer.duration, answer.steps
    return {
        "total_gb": in_gigabytes(answer.memory.total),
        "parts": {part.key: round(part.size / GB, 4) for part in answer.memory.parts},
        "free_gb": in_gigabytes(answer.free),
        "verdict": answer.verdict,
        "changes": [
            {"set": change.set, "saves_gb": in_gigabytes(change.saves), "words": change.words, "fits": change.fits}
            for change in answer.changes
        ],
        "steps": steps.steps if steps else None,
        "tokens": steps.tokens if steps else None,
        "seconds": round(duration.seconds) if duration else None,
        "seconds_range": [round(duration.low), round(duration.high)] if duration else None,
        "seconds_basis": duration.basis if duration else None,
        "device": answer.device,
        "peak": answer.memory.peak.words,
        "band": band_note(answer.config, answer.arch, answer.memory) if answer.device == "cuda" else None,
        "data": answer.sizes.words,
        "notes": [*answer.reasons, *answer.memory.notes],
        "measured": [
            {
                "run": one.run,
                "device": one.device,
                "measured_gb": in_gigabytes(one.measured),
                "estimated_gb": in_gigabytes(one.estimated),
            }
            for one in answer.earlier
        ],
    }


def _probe(config: Path, assignments: tuple[str, ...], answer: Answer, *, as_json: bool) -> None:
    """One real step in a process of its own: this one stays free of torch, and its memory is gone afterwards."""
    if answer.device == "cpu":
        raise RunError("the probe needs a GPU, and none can be used here", hint="`dpo-tui doctor` says why")
    places = (f"model_name={answer.config.model_name}", f"dataset={answer.config.dataset}")
    settings = [f"--set={text}" for text in (*assignments, *places)]
    command = [sys.executable, "-m", "dpo_tui.train.probe", str(config), *settings]
    narrate("Loading the model for one real step; this takes as long as the start of a run…")
    environ = {**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    if answer.gpu is not None and "CUDA_VISIBLE_DEVICES" not in environ:
        environ["CUDA_VISIBLE_DEVICES"] = str(answer.gpu)
    finished = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=False)
    if finished.returncode:
        raise click.exceptions.Exit(finished.returncode)  # it said why, in one line on stderr
    measured = json.loads(finished.stdout.splitlines()[-1])
    estimated = answer.memory.total
    document = {
        "measured_gb": in_gigabytes(measured["taken"]),
        "estimated_gb": in_gigabytes(estimated),
        "allocated_gb": in_gigabytes(measured["allocated"]),
        "reserved_gb": in_gigabytes(measured["reserved"]),
        "ratio": round(estimated / measured["taken"], 3) if measured["taken"] else None,
        "longest": measured["longest"],
        "step_seconds": round(measured["step_seconds"], 3),
        "device": measured["device"],
    }
    if as_json:
        print_json(document)
        return
    click.echo(
        f"measured   {document['measured_gb']:.2f} GB on {measured['device']}, one step in {document['step_seconds']} s"
    )
    click.echo(f"estimated  {document['estimated_gb']:.2f} GB")
    click.echo(f"longest    {measured['longest']} tokens of at most {answer.config.max_seq_length}")
