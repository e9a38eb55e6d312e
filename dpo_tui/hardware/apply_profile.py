"""Resolution of ``profile = "auto"``: the machine's profile, adapted until the memory estimate fits.

Settings of the user are never changed. Lossless changes come first: activation checkpointing, a smaller micro-batch
with more accumulation (the effective batch stays), activations offloaded to main memory. An 8-bit optimizer, which
rounds its state, is the last.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

from dpo_tui.config.files import from_values
from dpo_tui.config.schema import Config
from dpo_tui.errors import ConfigError
from dpo_tui.hardware.gpu_choice import recommend
from dpo_tui.hardware.memory.fit import smaller_batches, verdict_of
from dpo_tui.hardware.memory.memory_estimate import DeviceKind, estimate
from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.hardware.models.lookup import architecture_of
from dpo_tui.hardware.nvml import Inventory
from dpo_tui.hardware.profiles import SETTINGS, Profile, Ram, format_gb, main_memory
from dpo_tui.strategies.registry import strategy_of

_BATCH_FIELDS_IN_ORDER = ("per_device_train_batch_size", "gradient_accumulation_steps")
_BATCH_FIELDS = frozenset(_BATCH_FIELDS_IN_ORDER)
_LAST_RESORTS = (
    ("activation_offloading", True, "Activations wait in main memory for the backward pass, which takes longer."),
    ("optim", "paged_adamw_8bit", "The optimizer keeps its state in 8 bits and may move it to main memory."),
)
"""Field, value and sentence of what is set when the smallest micro-batch does not fit either; the costlier one last."""


@dataclass(frozen=True)
class ResolvedProfile:
    """A config with its profile applied.

    Attributes:
        config: ready to run.
        profile_name: the profile that was applied; "none" when the config names none.
        gpu_index: NVML index of the GPU; None for the CPU or when the profile is "none".
        reasons: sentences about what was decided and why.
        changed: the fields that the profile or the adaptation changed, with their new values.
    """

    config: Config
    profile_name: str
    gpu_index: int | None
    reasons: tuple[str, ...]
    changed: dict[str, Any]


def resolve_profile(
    config: Config,
    changed_fields: AbstractSet[str],
    inventory: Inventory,
    *,
    ram: Ram | None = None,
    longest: int | None = None,
    machine_profile: Profile | None = None,
) -> ResolvedProfile:
    """Apply a config's ``profile`` to its settings.

    Args:
        config: as loaded.
        changed_fields: names of the settings that the user set; they are never changed.
        inventory: the GPUs.
        ram: main memory; read from the machine when left out.
        longest: tokens of the longest real sequence, when known.
        machine_profile: recommended for the machine; found from the inventory when left out.
    """
    if config.profile == "none":
        return ResolvedProfile(config, "none", None, (), {})
    count = config.node_processes
    profile = machine_profile or recommend(inventory, ram or main_memory(), gpus=config.gpus, count=count)
    if profile.device == "cpu" and profile.free is not None:
        profile = replace(profile, free=profile.free // count)  # each process has a model of its own
    reasons = [profile.reason, *profile.warnings]
    name = profile.name if config.profile == "auto" else config.profile
    if name != profile.name:
        reasons.append(f"The config asks for {name}; this machine suggests {profile.name}.")
    settings = {field: value for field, value in SETTINGS[name].items() if field not in changed_fields}
    if "lora_r" in changed_fields and "lora_alpha" not in changed_fields:
        settings.pop("lora_alpha", None)  # without a value alpha follows the user's rank
    if config.model_init.get("quantization_config") is not None:
        settings.pop("use_4bit", None)  # the table says how the weights are held, and use_4bit beside it is refused
    # Micro-batch and accumulation make the effective batch together: the user's value of one would be wrong beside the
    # profile's value of the other.
    if changed_fields & _BATCH_FIELDS:
        for field in _BATCH_FIELDS:
            settings.pop(field, None)
    elif config.world_size > 1:
        settings |= _shared_out(settings, config.world_size)
        micro, accumulation = (settings[field] for field in _BATCH_FIELDS_IN_ORDER)
        together = micro * accumulation * config.world_size
        reasons.append(
            f"Each of {config.world_size} processes computes {micro} × {accumulation} of a step's {together} pairs."
        )
    settings |= strategy_of(config).allowed_batch(settings)
    start = from_values({**config.model_dump(), **settings})
    fitted, more = shrink_to_fit(start, changed_fields, profile, longest)
    before = config.model_dump()
    changed = {field: value for field, value in fitted.model_dump().items() if value != before[field]}
    return ResolvedProfile(fitted, name, profile.gpu, tuple(reasons + more), changed)


def _shared_out(settings: dict[str, Any], processes: int) -> dict[str, int]:
    """A profile's batch shared out among processes, so that the effective batch stays, or is the nearest possible."""
    micro, accumulation = (settings[field] for field in _BATCH_FIELDS_IN_ORDER)
    each = max(1, round(micro * accumulation / processes))
    micro = next(size for size in range(min(micro, each), 0, -1) if each % size == 0)
    return dict(zip(_BATCH_FIELDS_IN_ORDER, (micro, each // micro), strict=True))


def shrink_to_fit(
    config: Config, user_fields: AbstractSet[str], profile: Profile, longest: int | None = None
) -> tuple[Config, list[str]]:
    """Change settings that the user left open, one after the other, until the estimate fits.

    Args:
        config: with the profile's settings.
        user_fields: names of the settings that the user set.
        profile: of the machine, with its free memory.
        longest: tokens of the longest real sequence, when known.

    Returns:
        The config, and sentences about what was changed or why nothing could be.
    """
    try:
        arch = architecture_of(config.model_name, config.model_revision)
    except ConfigError as error:
        return config, [f"Memory was not estimated: {error.message}."]
    if profile.free is None:
        return config, ["Memory was not estimated: nothing is known about this GPU's memory."]
    estimator = _Estimator(arch, profile.device, longest)
    if estimator.total(config) <= profile.free:
        return config, [_fit_sentence(estimator.total(config), profile)]
    reasons = []
    first = config
    if not config.gradient_checkpointing and "gradient_checkpointing" not in user_fields:
        config = from_values({**config.model_dump(), "gradient_checkpointing": True})
        reasons.append("Activations are checkpointed: without it the run does not fit.")
    if not user_fields & _BATCH_FIELDS:
        smaller_batch = ""
        for values, description in smaller_batches(config):
            if estimator.total(config) <= profile.free:
                break
            config = from_values({**config.model_dump(), **values})
            needed = format_gb(estimator.total(first))
            smaller_batch = f"Took {description}: {first.per_device_train_batch_size} at once would need {needed}."
        if smaller_batch:
            reasons.append(smaller_batch)
    for field, value, sentence in _LAST_RESORTS:
        if estimator.total(config) > profile.free and profile.device == "cuda" and field not in user_fields:
            smaller = from_values({**config.model_dump(), field: value})
            if estimator.total(smaller) < estimator.total(config):
                config = smaller
                reasons.append(sentence)
    size = estimator.total(config)
    if size <= profile.free:
        return config, [*reasons, _fit_sentence(size, profile)]
    return config, [
        *reasons,
        f"It still does not fit: {format_gb(size)} needed, {format_gb(profile.free)} free. See `dpo-tui estimate`.",
    ]


@dataclass(frozen=True)
class _Estimator:
    """The estimate for configs that differ in settings only."""

    arch: Architecture
    device: DeviceKind
    longest: int | None

    def total(self, config: Config) -> int:
        return estimate(config, self.arch, device=self.device, longest=self.longest).total


def _fit_sentence(size: int, profile: Profile) -> str:
    free = profile.free or 0
    verdict = "It fits" if verdict_of(size, free) == "fits" else "It fits, tightly"
    return f"{verdict}: about {format_gb(size)} of {format_gb(free)} free."
