"""Check of the adapter: that ``lora_target_modules``, ``modules_to_save`` and [peft] name modules that the model has.

Names are those of the safetensors files. transformers renames some of them when it loads a model, so where they do not
settle it, a child process asks PEFT itself, on the model without its weights.
"""

import math
from collections.abc import Iterable

from dpo_tui.config.schema import Config
from dpo_tui.errors import ConfigError
from dpo_tui.processes.json_child import ChildError
from dpo_tui.processes.torch_tool import run_tool
from dpo_tui.start.model_checks.model_folder import ModelFolder
from dpo_tui.start.model_checks.quantised_weights import is_4_bit, quantisation_of
from dpo_tui.strategies.registry import strategy_of

ALL_LINEAR = "all-linear"
_STATE_SPACE = {"mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h"}
"""Types for which PEFT refuses :data:`_REFUSED_BY_PEFT`."""
_REFUSED_BY_PEFT = {"out_proj", "conv1d"}
_PARTS = ("vision_config", "audio_config")
_SETTINGS = ("lora_r", "lora_alpha", "lora_target_modules", "modules_to_save", "use_rslora", "use_dora", "peft")
_MOST_NAMED = 12
_NAMES_MODULES = {
    "alpha_pattern", "exclude_modules", "layers_pattern", "layers_to_transform", "rank_pattern", "target_parameters",
    "trainable_token_indices",
}  # fmt: skip
"""Fields of [peft] that name parts of the model."""
_NAMED_AS_STORED = {
    "gemma", "gemma2", "gemma3_text", "granite", "llama", "ministral", "mistral", "olmo2", "phi", "phi3", "qwen2",
    "qwen3", "smollm3", "stablelm",
}  # fmt: skip
"""Types whose weights have the same names in files and in memory."""


def check_adapter(folder: ModelFolder, config: Config) -> list[str]:
    """Check the modules that an adapter names.

    Returns:
        What has no effect, in sentences.

    Raises:
        ConfigError: nothing in the model has these names, or PEFT makes no such adapter on this model.
    """
    if not config.use_lora:
        return []
    _require_fixed_biases(folder, config)
    targets = [] if config.adapted_modules == ALL_LINEAR else list(config.lora_target_modules)
    model_type = str(folder.text_config.get("model_type", ""))
    refused = model_type in _STATE_SPACE and (not targets or _REFUSED_BY_PEFT & set(targets))
    if refused:
        others = [name for name in _linear_modules(folder) if name not in _REFUSED_BY_PEFT]
        raise folder.error(
            f"PEFT adapts no {' or '.join(sorted(_REFUSED_BY_PEFT))} of {model_type}"
            + (", which all-linear includes" if not targets else ""),
            f"name other layers in lora_target_modules: {_listed(others)}",
        )
    modules = _modules(folder)
    absent = [name for name in (*targets, *config.modules_to_save) if not _matches(name, modules)]
    asked = bool(absent) and bool(modules)
    if asked or config.peft.keys() & _NAMES_MODULES or _may_fit_no_experts(folder, config):
        absent = _ask_peft(folder, config, merge=False)
    notes = [
        f"lora_target_modules: the model has no {name}; it has {_listed(_linear_modules(folder))}"
        for name in absent
        if modules
    ]
    wrapped = [part.partition("_")[0] for part in _PARTS if isinstance(folder.config.get(part), dict)]
    if wrapped:
        notes.append(
            f"The model is trained on text alone: its {' and '.join(wrapped)} tower takes no part, and adapter "
            "matrices that lora_target_modules puts there, as in TRL, stay without effect"
        )
    return notes


def _may_fit_no_experts(folder: ModelFolder, config: Config) -> bool:
    """Whether an adapter has what PEFT lacks for experts that are held in one parameter, on a model that may have some.

    Without the question the run would end when its adapter is made, after the model is loaded.
    """
    special = config.adapter_dropout > 0 or config.use_dora or config.peft.get("lora_bias")
    return bool(special) and any(
        "expert" in name and isinstance(value, int) and value > 1 for name, value in folder.text_config.items()
    )


def _require_fixed_biases(folder: ModelFolder, config: Config) -> None:
    """Check that no bias of the base is trained where the base is the reference.

    PEFT trains biases in place, so that they stay changed when the adapter is switched off: log-probabilities of the
    reference, rewards and KL would be those of a model that nobody had.

    Raises:
        ConfigError: ``bias`` in [peft] trains biases that the model has.
    """
    trained = config.peft.get("bias", "none")
    strategy = strategy_of(config)
    if trained == "none" or not strategy.has_reference:
        return
    biases = [name.removesuffix(".bias") for name in folder.tensors if name.endswith(".bias")]
    if trained == "lora_only":
        linear = set(_linear_modules(folder))
        targets = linear if config.adapted_modules == ALL_LINEAR else set(config.lora_target_modules)
        biases = [name for name in biases if any(_matches(target, [name]) for target in targets)]
    if biases:
        names = sorted({name.rpartition(".")[2] for name in biases})
        raise folder.error(
            f"[peft] bias = {trained!r} trains the base's own biases (of {_listed(names)}), and the base is the "
            f"reference of {strategy.title}: it would change with the policy",
            "remove bias from [peft]; lora_bias = true there trains a bias of the adapter's own",
        )


def check_merge_at_end(folder: ModelFolder, config: Config) -> None:
    """Check that the adapter of a run can be merged into its base, where the run or the next stage needs that.

    Raises:
        ConfigError: it cannot.
    """
    if not config.use_lora:
        return
    quantisation = quantisation_of(folder)
    if quantisation is not None and not is_4_bit(quantisation):
        raise folder.error(
            "its weights are quantised, and an adapter can be merged into those of bitsandbytes in 4 bits only",
            "name the model as it was before it was quantised; or train one stage, without merge_at_end",
        )
    if not folder.weight_files:
        raise folder.error(
            "its weights are no safetensors, into which alone an adapter is merged",
            "save it once with transformers (model.save_pretrained); or train one stage, without merge_at_end",
        )
    plain = (
        quantisation is None
        and "text_config" not in folder.config
        and folder.config.get("model_type") in _NAMED_AS_STORED
    )
    if not plain:
        _ask_peft(folder, config, merge=True)


def _ask_peft(folder: ModelFolder, config: Config, *, merge: bool) -> list[str]:
    """Return the names in ``lora_target_modules`` that match nothing, as PEFT sees the model.

    Raises:
        ConfigError: PEFT makes no such adapter, ``modules_to_save`` has a name that matches nothing, or ``merge`` is
            true and the adapter cannot be merged.
    """
    settings = {name: getattr(config, name) for name in _SETTINGS if getattr(config, name) is not None}
    # The dropout that the adapter has: whether there is any depends on the strategy.
    settings |= {"lora_dropout": config.adapter_dropout, "disable_dropout": False}
    request = {"model": str(folder.path), "settings": settings, "merge": merge}
    try:
        # It computes nothing: no GPU is shown to it.
        return list(run_tool("adapter_plan", request, environment={"CUDA_VISIBLE_DEVICES": ""})["absent"])
    except ChildError as error:
        if error.exit_code != ConfigError.exit_code:
            raise
        raise folder.error(error.message, error.hint or "change lora_target_modules") from None


def _matches(name: str, modules: Iterable[str]) -> bool:
    """Whether a name is that of a module or its end, as in PEFT; files may lack the first parts of a name."""
    return any(module == name or module.endswith(f".{name}") or name.endswith(f".{module}") for module in modules)


def _modules(folder: ModelFolder) -> set[str]:
    """Return the modules that have weights in the files, and those that they lie in; none without safetensors."""
    if not folder.weight_files:
        return set()
    found = set()
    for name in folder.tensors:
        weight, _, state = name.partition(".weight.")  # what follows is how a weight is quantised
        module = weight if state else weight.rpartition(".")[0]
        while module:
            found.add(module)
            module = module.rpartition(".")[0]
    return found


def _linear_modules(folder: ModelFolder) -> list[str]:
    """Return the last parts of the names of matrices other than embeddings."""
    matrices = {
        name.removesuffix(".weight").rpartition(".")[2]
        for name, tensor in folder.tensors.items()
        if name.endswith(".weight") and math.prod(tensor.shape) > max(tensor.shape, default=0)
    }
    return sorted(name for name in matrices if "embed" not in name and name not in ("wte", "wpe", "lm_head"))


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
