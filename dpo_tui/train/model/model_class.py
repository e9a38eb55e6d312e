"""The class that loads a language model: the one that its config names, as in TRL's `create_model_from_path`.

Wrappers of a language model with a vision tower (Mistral Small 3, Ministral 3, Qwen3-VL, Gemma 3) have no entry among
transformers' causal language models, or one that loads the language model alone, under other names than its files have.
They train on text, as they are: the vision tower takes no part in it.
"""

from pathlib import Path
from typing import Any

import transformers
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MULTIMODAL_LM_MAPPING

from dpo_tui.errors import ConfigError
from dpo_tui.train.model.verified_code import may_run_code_of

_IN_WRAPPER = ".language_model."
"""In the names of an adapter's weights: it was trained on the wrapper, and not on the language model alone."""


def model_class(name: str | Path, revision: str | None = None, adapter: Path | None = None) -> Any:
    """Return the class whose ``from_pretrained`` loads a model.

    Args:
        name: folder or hub id.
        revision: of the hub id.
        adapter: folder of an adapter that is put on the model: earlier versions trained some on the language model
            alone, without its wrapper, and those are loaded so.

    Raises:
        ConfigError: transformers has no class that generates text with this type of model.
    """
    trusts = may_run_code_of(name)
    config = AutoConfig.from_pretrained(name, revision=revision or "main", trust_remote_code=trusts)
    if trusts and "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}):
        return AutoModelForCausalLM  # which makes it by the model's own code
    causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    named = _named_class(config)
    if named is not None and not (causal and adapter is not None and _is_of_language_model_alone(config, adapter)):
        return named
    if causal:
        return AutoModelForCausalLM
    if type(config) in MODEL_FOR_MULTIMODAL_LM_MAPPING and not config.is_encoder_decoder:
        return MODEL_FOR_MULTIMODAL_LM_MAPPING[type(config)]
    raise ConfigError(
        f"model_name = {name}: model_type {config.model_type!r} ({', '.join(config.architectures or ['no class'])}) is "
        "not a language model that continues a text",
        hint="name a model whose config.json has a class such as LlamaForCausalLM under architectures",
    )


def model_without_weights(folder: Path, adapter: Path | None = None) -> Any:
    """Make a model on torch's meta device, which allocates nothing; see :func:`model_class`."""
    import torch

    chosen = model_class(folder, adapter=adapter)
    trusts = may_run_code_of(folder)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trusts)
    with torch.device("meta"):
        if chosen is AutoModelForCausalLM:
            return chosen.from_config(config, trust_remote_code=trusts)
        return chosen._from_config(config)


def _named_class(config: Any) -> type[PreTrainedModel] | None:
    """Return the class that a config names, if transformers has it and it generates text from this type of config.

    A config may name a class of its repository's own code, a classifier, or the model without its output layer.
    """
    for name in config.architectures or ():
        found = getattr(transformers, name, None)
        if (
            isinstance(found, type)
            and issubclass(found, PreTrainedModel)
            and issubclass(found, GenerationMixin)
            and getattr(found, "config_class", None) is type(config)
            and not config.is_encoder_decoder
        ):
            return found
    return None


def _is_of_language_model_alone(config: Any, adapter: Path) -> bool:
    """Whether an adapter was trained on what transformers loads of a wrapper as a causal language model."""
    file = adapter / "adapter_model.safetensors"
    if MODEL_FOR_CAUSAL_LM_MAPPING[type(config)] is _named_class(config) or not file.is_file():
        return False
    with safe_open(file, framework="pt") as stored:
        return not any(_IN_WRAPPER in name for name in stored.keys())  # noqa: SIM118 (no mapping)
