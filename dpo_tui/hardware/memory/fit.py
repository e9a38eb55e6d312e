"""Comparison of an estimate with the free memory, and the smallest config changes that make a run fit.

Remedies are tried in this order: 4-bit weights, a smaller micro-batch with more accumulation, activation checkpointing,
shorter sequences, a smaller model. Every remedy keeps the effective batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from dpo_tui.config.files import from_values
from dpo_tui.config.schema import Config
from dpo_tui.errors import DpoTuiError
from dpo_tui.hardware.memory.memory_estimate import GB, DeviceKind, estimate
from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.hardware.models.lookup import architecture_of, recommended_models
from dpo_tui.hardware.models.quantised import quantisation_while_loading
from dpo_tui.strategies.registry import strategy_of

Verdict = Literal["fits", "tight", "does-not-fit", "unknown"]

TIGHT = 0.9
"""Share of the free memory above which a fit is called tight: the estimate aims to be within a tenth."""
SHORTEST_USEFUL = 256
"""Tokens of ``max_seq_length`` below which most pairs would be truncated."""

_Change = tuple[dict[str, Any], str]
"""New values of config fields, and a description of the change."""


@dataclass(frozen=True)
class FitChange:
    """One config change that saves memory.

    Attributes:
        settings: field names and their new values.
        saves: bytes saved against the config it applies to.
        description: the change, for the user.
        fits: whether the run fits once it, and every change listed before it in a chain, is made.
    """

    settings: dict[str, Any]
    saves: int
    description: str
    fits: bool


def verdict_of(total: int, free: int | None) -> Verdict:
    """Compare an estimate with the free memory, both in bytes."""
    if free is None:
        return "unknown"
    if total > free:
        return "does-not-fit"
    return "tight" if total > TIGHT * free else "fits"


@dataclass(frozen=True)
class _Misfit:
    """A config that does not fit, and the memory that it should fit into, both in bytes."""

    config: Config
    arch: Architecture
    total: int
    free: int
    device: DeviceKind
    longest: int | None


def changes_to_fit(
    config: Config, arch: Architecture, free: int, *, device: DeviceKind = "cuda", longest: int | None = None
) -> list[FitChange]:
    """Find the smallest changes after which the run fits into ``free`` bytes.

    Args:
        config: the run's settings.
        arch: its model's dimensions.
        free: bytes.
        device: what the run trains on.
        longest: tokens of the longest real sequence, when known.

    Returns:
        Nothing if it fits. Else alternatives, each of which is enough alone. Where there are none, a chain: changes to
        be made one after the other, of which the last makes the run fit. If no chain does, no change has ``fits`` set.
    """
    total = estimate(config, arch, device=device, longest=longest).total
    misfit = _Misfit(config, arch, total, free, device, longest)
    if total <= free:
        return []
    alone = [
        change for remedy in _REMEDIES if (change := _smallest(remedy(config), misfit)) is not None and change.fits
    ]
    if alone:
        return alone
    chain: list[FitChange] = []
    current = misfit
    for remedy in _REMEDIES:
        change = _smallest(remedy(current.config), current)
        if change is None:
            continue
        chain.append(change)
        if change.fits:
            return chain
        current = replace(
            current, config=_with_values(current.config, change.settings), total=current.total - change.saves
        )
    smaller = _smallest(_smaller_model(config), misfit)
    if smaller is not None and smaller.fits:
        return [smaller]
    smaller = _smallest(_smaller_model(current.config), current)
    return [*chain, smaller] if smaller is not None else chain


def _smallest(candidates: Iterator[_Change], misfit: _Misfit) -> FitChange | None:
    """The first candidate that fits; else the one that saves most. Candidates come smallest change first."""
    best: FitChange | None = None
    for values, description in candidates:
        try:
            changed = _with_values(misfit.config, values)
            arch = architecture_of(values["model_name"]) if "model_name" in values else misfit.arch
        except DpoTuiError:
            continue  # the changed config would be invalid, or the model is not known
        size = estimate(changed, arch, device=misfit.device, longest=misfit.longest).total
        if misfit.total - size > (best.saves if best is not None else 0):
            best = FitChange(values, misfit.total - size, description, size <= misfit.free)
            if best.fits:
                return best
    return best


def _with_values(config: Config, values: dict[str, Any]) -> Config:
    return from_values({**config.model_dump(), **values})


def _four_bit(config: Config) -> Iterator[_Change]:
    # NF4 and divided together are for who asks for both; use_4bit beside [model_init] quantization_config is refused.
    if config.is_sharded or quantisation_while_loading(config) is not None:
        return
    if config.use_lora:
        yield {"use_4bit": True}, "hold the weights in 4-bit (QLoRA)"
    else:
        yield {"use_4bit": True, "use_lora": True}, "train an adapter over 4-bit weights (QLoRA)"


def smaller_batches(config: Config) -> Iterator[_Change]:
    """Yield smaller micro-batches with more accumulation that keep the effective batch, largest first."""
    whole, together, strategy = config.process_batch, config.effective_batch, strategy_of(config)
    examples = strategy.data.value
    # Accumulation equals a larger micro-batch only where the loss of an example does not depend on the others.
    differs = "; the loss is taken over fewer at once" if strategy.micro_batch_changes_loss(config.model_dump()) else ""
    for batch in range(config.per_device_train_batch_size - 1, strategy.smallest_micro_batch - 1, -1):
        if whole % batch == 0:
            values = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": whole // batch}
            yield (
                values,
                f"micro-batch {batch} × accumulation {whole // batch} (still {together} {examples} a step{differs})",
            )


def _checkpointing(config: Config) -> Iterator[_Change]:
    if not config.gradient_checkpointing:
        yield {"gradient_checkpointing": True}, "checkpoint activations (about 20 % slower)"


def _shorter(config: Config) -> Iterator[_Change]:
    length = config.max_seq_length
    for eighths in range(7, 0, -1):
        shorter = length * eighths // 8 // 8 * 8
        if SHORTEST_USEFUL <= shorter < length:
            yield {"max_seq_length": shorter}, f"sequences of at most {shorter} tokens"


def _smaller_model(config: Config) -> Iterator[_Change]:
    for model in reversed(recommended_models()):
        asks = ", asks for a hub token" if model.gated else ""
        yield {"model_name": model.name}, f"a smaller model: {model.name} ({model.licence}{asks})"


# In their order. A smaller model is proposed only when these are not enough together.
_REMEDIES = (_four_bit, smaller_batches, _checkpointing, _shorter)


def in_gigabytes(size: int | None) -> float | None:
    """Bytes as decimal gigabytes with two digits, for JSON."""
    return None if size is None else round(size / GB, 2)
