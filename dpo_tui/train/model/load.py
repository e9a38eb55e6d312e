"""Load a model and its tokenizer with transformers, and make the LoraConfig of its adapter."""

import copy
from pathlib import Path
from typing import Any

import peft
import torch
from peft import LoraConfig
from transformers import AutoTokenizer, BitsAndBytesConfig

from dpo_tui.config.library_fields import loading_keywords
from dpo_tui.config.schema import Config
from dpo_tui.data.tokens.chat_template import DEFAULT_CHAT_TEMPLATE
from dpo_tui.data.tokens.template_defaults import with_defaults
from dpo_tui.data.tokens.tokenizer_settings import chosen_tokens, no_padding_token, unknown_token
from dpo_tui.errors import TrainingError
from dpo_tui.text.whole_file import read_whole_text
from dpo_tui.train.model import varlen_attention
from dpo_tui.train.model.checked_loading import Report, load_checked
from dpo_tui.train.model.device import TrainingDevice
from dpo_tui.train.model.limited_rendering import limit_rendering
from dpo_tui.train.model.model_class import model_class
from dpo_tui.train.model.sharding import divides
from dpo_tui.train.model.verified_code import may_run_code_of, trust_code_of

# torch.compile makes a new FlexAttention kernel for one row or several, other lengths, with or without gradients,
# shared prompts, generation. Past its default limit of 8 it falls back to unfused code, which materialises all
# attention scores; 8 steps with evaluations, samples and KL estimates needed 9.
_FLEX_RECOMPILE_LIMIT = 64


def load_tokenizer(config: Config) -> tuple[Any, list[str]]:
    """Load the tokenizer and make sure that it has a chat template.

    Returns:
        The tokenizer, and a sentence about each thing that it lacks and gets here.

    Raises:
        TrainingError: the chat template's file cannot be read.
        ConfigError: ``eos_token`` is no token, or there is nothing to pad with.
    """
    notes = []
    limit_rendering()
    trust_code_of(config)
    tokenizer = AutoTokenizer.from_pretrained(
        config.model_name,
        revision=config.model_revision or "main",
        trust_remote_code=may_run_code_of(config.model_name),
    )
    if config.chat_template:
        try:
            tokenizer.chat_template = read_whole_text(config.chat_template)
        except OSError as error:
            raise TrainingError(f"chat_template = {config.chat_template}: {error.strerror}") from None
    elif tokenizer.chat_template is None:
        tokenizer.chat_template = DEFAULT_CHAT_TEMPLATE
        notes.append("The tokenizer has no chat template; ChatML is used, and saved with the adapter")
    tokenizer.chat_template = _with_variables(tokenizer.chat_template, config)
    for name, token in chosen_tokens(config).items():
        if token not in tokenizer.get_vocab():
            raise unknown_token(config, name, token, tokenizer.all_special_tokens)
    if config.eos_token:
        tokenizer.eos_token = config.eos_token
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise no_padding_token(config, list(tokenizer.get_added_vocab()))
        tokenizer.pad_token = tokenizer.eos_token
        notes.append(f"The tokenizer has no padding token; {tokenizer.eos_token!r} is used")
    return tokenizer, notes


def _with_variables(template: Any, config: Config) -> Any:
    """The template, or each of several by name, with the values of ``chat_template_kwargs`` as defaults."""
    if isinstance(template, dict):
        return {name: with_defaults(one, config.chat_template_kwargs) for name, one in template.items()}
    return with_defaults(template, config.chat_template_kwargs)


def load_model(
    config: Config, device: TrainingDevice, adapter: Path | None = None, warn: Report = lambda _: None
) -> Any:
    """Load the weights onto the device.

    Frozen weights have the dtype of the computation (4-bit: NF4 with double quantisation, QLoRA, arXiv 2305.14314).
    In full fine-tuning the weights stay in fp32, and the matrix products run under autocast, as in TRL: bf16 weights
    would round small updates away.

    Args:
        config: the run's settings.
        device: device and precision.
        adapter: folder of an adapter that will be put on the model; see :func:`model_class`.
        warn: receives a sentence where the model's files hold weights that are not used.

    Raises:
        TrainingError: a weight of the model is in none of its files, or its attention is not one for variable lengths.
    """
    trust_code_of(config)
    if config.attn_implementation == "flex_attention":
        torch._dynamo.config.recompile_limit = _FLEX_RECOMPILE_LIMIT
    chosen = model_class(config.model_name, config.model_revision, adapter)
    try:
        model = load_checked(chosen, config.model_name, warn=warn, **loading_options(config, device))
    except (TypeError, ValueError) as error:
        if not config.model_init:
            raise
        raise TrainingError(
            f"[model_init] {', '.join(config.model_init)}: the model cannot be loaded with them: {error}",
            hint="mend or remove them in the config",
        ) from error
    if config.attn_implementation == varlen_attention.NAME:
        _set_varlen_attention(model)
    # The key-value cache is for generation, which asks for it; in training with checkpointing it only causes warnings.
    model.config.use_cache = False
    disable_4bit_repacking(model)
    return model


def _set_varlen_attention(model: Any) -> None:
    if obstacle := varlen_attention.model_obstacle(model):
        raise TrainingError(
            f'attn_implementation = "{varlen_attention.NAME}": {obstacle}', hint='leave attn_implementation at "auto"'
        )
    varlen_attention.register()
    model.set_attn_implementation(varlen_attention.NAME)


def loading_options(config: Config, device: TrainingDevice) -> dict[str, Any]:
    """Return the keywords of ``from_pretrained`` of a config's model; those of [model_init] come last.

    Args:
        config: the run's settings.
        device: device and precision.
    """
    dtype = device.dtype if config.use_lora else torch.float32
    options: dict[str, Any] = {"dtype": dtype, "revision": config.model_revision or "main"}
    # Attention for variable lengths is set once the model is here: a family with attention code of its own would fail
    # on the name before it can be asked.
    if config.attn_implementation not in ("auto", varlen_attention.NAME):
        options["attn_implementation"] = config.attn_implementation
    if config.use_4bit:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=device.dtype,
            # FSDP2 divides floating-point weights only, and accelerate leaves uint8 whole on every process. As bf16 the
            # packed bytes are the same, two in a number that nothing computes with.
            **({"bnb_4bit_quant_storage": torch.bfloat16} if divides(config) else {}),
        )
    # Divided, it need not fit a GPU whole: it comes there when the training begins, or before if it fits.
    if device.kind == "cuda" and not divides(config):
        options["device_map"] = {"": torch.cuda.current_device()}
    return options | copy.deepcopy(config.model_init)


def model_config_values(config: Config) -> dict[str, Any]:
    """Return what [model_init] changes in the model's own config, without the keywords of ``from_pretrained``."""
    keywords = loading_keywords() or frozenset()
    return {name: copy.deepcopy(value) for name, value in config.model_init.items() if name not in keywords}


def disable_4bit_repacking(model: Any) -> None:
    """Keep bitsandbytes from repacking the 4-bit weights of a model for inference on the processor.

    On a processor with AVX512-BF16, the first forward in eval mode without gradients repacks each `Linear4bit` for
    inference, and for good: training steps then run through a kernel in bf16 that has no gradient with respect to its
    input, so that the adapters below lose most of theirs, without a word. The reference pass, the equivalence check,
    evaluations and sampled answers are such forwards. (bitsandbytes 0.50.2: nn/modules.py, autograd/_functions.py.)
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def train_in_fp32(model: Any) -> None:
    """Hold the weights that are trained in fp32, as the scaler of losses in fp16 needs them.

    It refuses gradients in fp16, which copied layers (modules_to_save) would have, and torch has no kernel for those in
    bf16 on GPUs, in which TRL holds an adapter over quantised weights.

    Args:
        model: with its adapter, before the optimizer is made.
    """
    for weight in model.parameters():
        if weight.requires_grad and weight.is_floating_point():
            weight.data = weight.data.float()


def lora_config(config: Config) -> LoraConfig | None:
    """Return PEFT's config of the adapter; None for full fine-tuning.

    Raises:
        TrainingError: PEFT does not take what the table [peft] sets.
    """
    if not config.use_lora:
        return None
    values: dict[str, Any] = {
        "task_type": "CAUSAL_LM",
        "r": config.lora_r,
        "lora_alpha": config.alpha,
        # Not lora_dropout where TRL would set it to 0 in the finished adapter: PEFT makes none with dropout on experts
        # that are fused into one parameter (ParamWrapper, for Mixtral, Qwen3-MoE, DeepSeek-V3 and others).
        "lora_dropout": config.adapter_dropout,
        "target_modules": config.adapted_modules,
        "modules_to_save": list(config.modules_to_save) or None,
        "use_rslora": config.use_rslora,
        "use_dora": config.use_dora,
    }
    try:
        return LoraConfig(**(values | copy.deepcopy(config.peft)))
    except (TypeError, ValueError) as error:
        if not config.peft:
            raise
        raise TrainingError(
            f"[peft] {', '.join(config.peft)}: PEFT {peft.__version__} refuses them: {error}",
            hint="mend or remove them in the config",
        ) from error
