"""The adapter that a config will train, made without weights before a run: what it adapts, and if it can be merged.

It takes the base's config and the names in its files. What cannot be merged is what :mod:`merge_weights` would refuse
after the training: adapters on weights that are in no file.
"""

from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper

from dpo_tui.errors import ConfigError
from dpo_tui.train.export.adapted_layers import adapted_weight
from dpo_tui.train.export.adapter_patterns import check_patterns, check_rank_patterns
from dpo_tui.train.export.merge_weights import names_in, shapes_of_weights, shards_of
from dpo_tui.train.export.weight_conversion import WeightConversion
from dpo_tui.train.model.model_class import model_without_weights

_MOST_NAMED = 12
_NOT_ON_EXPERTS = {"lora_dropout": "0", "use_dora": "false", "lora_bias": "false"}
"""What PEFT's ParamWrapper lacks (0.21), and the value that switches it off."""
_TRAINED_WHOLE = {"embed_tokens", "lm_head", "wte", "wpe", "embed_in", "embed_out", "norm", "ln_f", "word_embeddings"}
"""Modules that people train whole beside an adapter."""


def plan_adapter(base: Path, settings: LoraConfig, *, merge: bool) -> list[str]:
    """Make an adapter on a model, both without weights.

    Args:
        base: folder of the model.
        settings: of the adapter.
        merge: whether it has to be merged into the model at the end.

    Returns:
        The names in ``target_modules`` that match no module, where others do.

    Raises:
        TrainingError: it is to be merged, and the model has no safetensors.
        ConfigError: PEFT makes no such adapter on this model, ``modules_to_save`` or the table [peft] names what the
            model has not, or the adapter could not be merged.
    """
    model = model_without_weights(base)
    tied = dict(model.all_tied_weights_keys)
    linear = sorted({name.rpartition(".")[2] for name, module in model.named_modules() if _is_linear(module)})
    targets, whole = settings.target_modules, settings.modules_to_save or []
    weights = [name for name, _ in model.named_parameters()]
    check_patterns(settings, [name for name, _ in model.named_modules() if name], weights)
    patterns = {name: tuple(getattr(settings, name) or ()) for name in ("rank_pattern", "alpha_pattern")}
    _require_tokens(settings, model)
    try:
        adapted = get_peft_model(model, settings, low_cpu_mem_usage=True).base_model.model
    except (ValueError, AttributeError, TypeError, NotImplementedError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].partition(" Please ")[0]
        option = next((name for name in _NOT_ON_EXPERTS if "ParamWrapper" in reason and name in reason), "")
        if option:
            raise ConfigError(
                f"{option}: PEFT has none in an adapter on experts that are held in one parameter, as this model's are",
                hint=f"set {option} = {_NOT_ON_EXPERTS[option]}, or name layers other than experts in "
                "lora_target_modules",
            ) from error
        raise ConfigError(
            f"PEFT makes no adapter with these lora_target_modules on it: {reason}",
            hint=f"name some of its linear layers in lora_target_modules: {', '.join(linear[:_MOST_NAMED])}",
        ) from error
    changed = {name: module for name, module in adapted.named_modules() if isinstance(module, LoraLayer)}
    check_rank_patterns(patterns, [*changed, *(name for name in weights if not name.endswith((".weight", ".bias")))])
    saved = {name: module for name, module in adapted.named_modules() if isinstance(module, ModulesToSaveWrapper)}
    for name in whole:
        if not _matches(name, saved):
            modules = sorted({module.rpartition(".")[2] for module, _ in adapted.named_modules()} & _TRAINED_WHOLE)
            raise ConfigError(
                f"modules_to_save: the model has no module {name}",
                hint=f"name one that it has, such as {', '.join(modules)}; or leave modules_to_save out",
            )
    if merge:
        needed = [adapted_weight(name, module) for name, module in sorted(changed.items())]
        needed += [
            f"{name}.{part}"
            for name, module in saved.items()
            for part in module.modules_to_save["default"].state_dict()
        ]
        shapes = shapes_of_weights(base, {shard: names_in(base / shard) for shard in shards_of(base)})
        present = WeightConversion(model_without_weights(base), shapes).in_memory
        _require_present(needed, present | {name for pair in tied.items() if present & set(pair) for name in pair})
    return [] if isinstance(targets, str) else [name for name in targets or [] if not _matches(name, changed)]


def _require_tokens(settings: LoraConfig, model: Any) -> None:
    """Check that the tokens whose rows of the embedding are trained are in it; torch would end in an IndexError."""
    asked = settings.trainable_token_indices or []
    tokens = asked if isinstance(asked, list) else [token for tokens in asked.values() for token in tokens]
    rows = model.get_input_embeddings().weight.shape[0]
    beyond = [token for token in tokens if not 0 <= token < rows]
    if beyond:
        raise ConfigError(
            f"[peft] trainable_token_indices: the embedding has no row {beyond[0]}; it has rows 0 to {rows - 1}",
            hint="change trainable_token_indices in [peft]",
        )


def _is_linear(module: object) -> bool:
    """Whether PEFT can adapt a module as a linear layer."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Linear | Conv1D)


def _matches(name: str, modules: object) -> bool:
    return any(module == name or module.endswith(f".{name}") for module in modules)  # type: ignore[attr-defined]


def _require_present(changed: list[str], present: set[str]) -> None:
    """Check that each weight that an adapter changes is in the model's files."""
    for name in changed:
        if name not in present:
            raise ConfigError(
                f"the adapter would change {name.removesuffix('.weight')}, which is in no file of the model, and such "
                "an adapter cannot be merged into its base",
                hint="leave it out of lora_target_modules and modules_to_save; or train one stage, without "
                "merge_at_end, and use base and adapter together",
            )
