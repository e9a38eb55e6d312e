"""``profile = "auto"``: take the machine's profile, then adapt until the estimate fits.

A setting that a person gave always wins. What is adapted first is lossless: checkpointed activations, micro-batch
against accumulation (the effective batch stays), activations kept in main memory. An 8-bit optimizer, which rounds its
state, comes last, and only where nothing else is left.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
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
from dpo_tui.hardware.profiles import SETTINGS, Profile, Ram, gb, main_memory

_LAST_RESORTS = (
    ("activation_offloading", True, "Activations wait in main memory for the backward pass, which takes longer."),
    ("optim", "paged_adamw_8bit", "The optimizer keeps its state in 8 bits and may move it to main memory."),
)
"""What else may be set where a micro-batch of one does not fit, with the words for it; the dearer one last."""


@dataclass(frozen=True)
class ResolvedProfile:
    """A config with its profile worked in.

    Attributes:
        config: ready to run.
        profile_name: which profile was taken, "none" when the config names none.
        gpu_index: NVML index of the GPU; None for the CPU or when the profile is "none".
        reasons: what was decided and why, in words.
        changed: the fields that the profile or the adaptation set.
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
    found: Profile | None = None,
) -> ResolvedProfile:
    """Work a config's ``profile`` into its settings.

    Args:
        config: as loaded.
        changed_fields: names of the settings that a person set; they are never changed.
        inventory: what NVML told.
        ram: main memory; read from the machine when left out.
        longest: tokens of the longest real sequence, when known.
        found: the machine's profile, where the caller knows it already.
    """
    if config.profile == "none":
        return ResolvedProfile(config, "none", None, (), {})
    given = changed_fields
    found = found or recommend(inventory, ram or main_memory(), gpus=config.gpus)
    reasons = [found.reason, *found.warnings]
    name = found.name if config.profile == "auto" else config.profile
    if name != found.name:
        reasons.append(f"The config asks for {name}; this machine suggests {found.name}.")
    wanted = {field: value for field, value in SETTINGS[name].items() if field not in given}
    if "lora_r" in given and "lora_alpha" not in given:
        wanted.pop("lora_alpha", None)  # left out, alpha follows the rank
    # One half of micro-batch × accumulation given by the person: the other half is theirs, too.
    if given & {"per_device_train_batch_size", "gradient_accumulation_steps"}:
        wanted.pop("per_device_train_batch_size", None)
        wanted.pop("gradient_accumulation_steps", None)
    start = from_values({**config.model_dump(), **wanted})
    fitted, more = shrink_to_fit(start, given, found, longest)
    before = config.model_dump()
    changed = {field: value for field, value in fitted.model_dump().items() if value != before[field]}
    return ResolvedProfile(fitted, name, found.gpu, tuple(reasons + more), changed)


def shrink_to_fit(
    config: Config, given: AbstractSet[str], profile: Profile, longest: int | None = None
) -> tuple[Config, list[str]]:
    """Take one step after the other until the estimate fits, as far as the person left them open.

    Returns:
        The config, and sentences about what was changed or why nothing could be.
    """
    try:
        arch = architecture_of(config.model_name, config.model_revision)
    except ConfigError as error:
        return config, [f"Memory was not estimated: {error.message}."]
    if profile.free is None:
        return config, ["Memory was not estimated: nothing is known about this GPU's memory."]
    sizes = _Sizes(arch, profile.device, longest)
    if sizes.of(config) <= profile.free:
        return config, [_fits(sizes.of(config), profile)]
    reasons = []
    first = config
    if not config.gradient_checkpointing and "gradient_checkpointing" not in given:
        config = from_values({**config.model_dump(), "gradient_checkpointing": True})
        reasons.append("Activations are checkpointed: without it the run does not fit.")
    if not given & {"per_device_train_batch_size", "gradient_accumulation_steps"}:
        for values, words in smaller_batches(config):
            if sizes.of(config) <= profile.free:
                break
            config = from_values({**config.model_dump(), **values})
            step = f"Took {words}: {first.per_device_train_batch_size} at once would need {gb(sizes.of(first))}."
            reasons = [reason for reason in reasons if not reason.startswith("Took ")] + [step]
    for field, value, words in _LAST_RESORTS:
        if sizes.of(config) > profile.free and profile.device == "cuda" and field not in given:
            saving = from_values({**config.model_dump(), field: value})
            if sizes.of(saving) < sizes.of(config):
                config = saving
                reasons.append(words)
    size = sizes.of(config)
    if size <= profile.free:
        return config, [*reasons, _fits(size, profile)]
    return config, [
        *reasons,
        f"It still does not fit: {gb(size)} needed, {gb(profile.free)} free. See `dpo-tui estimate`.",
    ]


@dataclass(frozen=True)
class _Sizes:
    arch: Architecture
    device: DeviceKind
    longest: int | None

    def of(self, config: Config) -> int:
        return estimate(config, self.arch, device=self.device, longest=self.longest).total


def _fits(size: int, profile: Profile) -> str:
    free = profile.free or 0
    verdict = "It fits" if verdict_of(size, free) == "fits" else "It fits, tightly"
    return f"{verdict}: about {gb(size)} of {gb(free)} free."
