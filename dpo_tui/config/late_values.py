"""Values that a library takes when it is given them and refuses, ignores or misreads in the middle of a run.

Each function returns why a value would be one, or an empty text. :data:`LATE_VALUES` says of which argument it is.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpo_tui.config.schema import Config
from dpo_tui.text.plain_documents import parse_json

_CHECKPOINT_KEYS = (
    *("use_reentrant", "preserve_rng_state", "determinism_check", "debug", "early_stop"),
    *("every_n_layers", "offload"),
)
"""Of torch.utils.checkpoint (2.13), and of transformers (5.23), which takes the last two out."""
_OLD_NAME, _NEW_NAME = "gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"
_COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
_COMPILE_BACKENDS = (
    *("eager", "aot_eager", "inductor", "aot_ts_nvfuser", "nvprims_nvfuser", "cudagraphs", "ofi", "fx2trt", "onnxrt"),
    *("tensorrt", "aot_torchxla_trace_once", "torchxla_trace_once", "tvm", "hpu_backend", "neuron"),
)
"""Of accelerate's DynamoBackend (1.15), through which transformers passes the name."""
_COUNTED_TOKENS = ("all", "non_padding", "no")


def late_problem(table: str, name: str, value: Any, annotation: str, config: Config) -> str:
    """Why a value would end or change a run later; empty where it would not, or nothing is known.

    Args:
        table: of the config that has the value.
        name: of the argument.
        value: of it.
        annotation: its type in the library's source.
        config: with the value, and those that go with it.
    """
    check = LATE_VALUES.get((table, name))
    return (check(value, config) if check else "") or _items_problem(value, annotation)


def _items_problem(value: Any, annotation: str) -> str:
    """A list of texts, or of whole numbers, with something else in it."""
    found = re.search(r"\b[Ll]ist\[(str|int)\]", annotation)
    if found is None or not isinstance(value, list):
        return ""
    kind, noun = (str, "texts") if found[1] == "str" else (int, "whole numbers")
    return "" if all(isinstance(item, kind) and not isinstance(item, bool) for item in value) else f"must list {noun}"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _table(value: Any) -> Any:
    """A table, which transformers takes as JSON text as well; other values as they are."""
    if not (isinstance(value, str) and value.startswith("{")):
        return value
    try:
        return parse_json(value)
    except ValueError:
        return value


def _is_table(value: Any, _: Config) -> str:
    return "" if isinstance(_table(value), dict) else "must be a table"


def _table_or_file(value: Any, config: Config) -> str:
    return "" if isinstance(value, str) and Path(value).is_file() else _is_table(value, config)


def _checkpointing(value: Any, config: Config) -> str:
    table = _table(value)
    if not isinstance(table, dict):
        return "must be a table"
    if not config.gradient_checkpointing:
        return "does nothing with gradient_checkpointing = false, in [training]"
    unknown = [name for name in table if name not in _CHECKPOINT_KEYS]
    return f"has {unknown[0]}, and checkpointing takes {', '.join(_CHECKPOINT_KEYS)}" if unknown else ""


def _old_checkpointing(value: Any, config: Config) -> str:
    if config.trl.get(_NEW_NAME) is not None:
        return f"is the old name of {_NEW_NAME}, which is set too and wins; keep one"
    return _checkpointing(value, config)


def _needs_workers(value: Any, config: Config) -> str:
    return "" if config.dataloader_num_workers or not value else "needs dataloader_num_workers above 0, in [training]"


def _above_zero(value: Any, _: Config) -> str:
    return "" if value > 0 else "must be above 0"


def _at_least_one(value: Any, _: Config) -> str:
    return "" if value >= 1 else "must be at least 1"


def _one_of(allowed: tuple[str, ...]) -> Callable[[Any, Config], str]:
    return lambda value, _: (
        "" if value in allowed or isinstance(value, bool) else f"must be one of {', '.join(allowed)}"
    )


def _padding(value: Any, _: Config) -> str:
    fits = not isinstance(value, str) or value.isdecimal() or value.lower() in ("auto", "none", "null")
    return "" if fits else 'must be a whole number, "auto" or "none"'


def _tokens(value: Any, _: Config) -> str:
    lists = list(value.values()) if isinstance(value, dict) else [value]
    fits = all(isinstance(one, list) and all(map(_is_whole, one)) for one in lists)
    return "" if fits else "must list token ids, or be a table of such lists by layer"


def _ranks(value: Any, _: Config) -> str:
    fits = all(_is_whole(one) and one > 0 for one in value.values())
    return "" if fits else "must have whole numbers above 0"


def _alphas(value: Any, _: Config) -> str:
    fits = all(isinstance(one, int | float) and not isinstance(one, bool) for one in value.values())
    return "" if fits else "must have numbers"


LATE_VALUES: dict[tuple[str, str], Callable[[Any, Config], str]] = {
    ("trl", "accelerator_config"): _table_or_file,
    ("trl", "lr_scheduler_kwargs"): _is_table,
    ("trl", _NEW_NAME): _checkpointing,
    ("trl", _OLD_NAME): _old_checkpointing,
    ("trl", "dataloader_prefetch_factor"): _needs_workers,
    ("trl", "dataloader_persistent_workers"): _needs_workers,
    ("trl", "ddp_bucket_cap_mb"): _at_least_one,
    ("trl", "ddp_timeout"): _at_least_one,
    ("trl", "include_num_input_tokens_seen"): _one_of(_COUNTED_TOKENS),
    ("trl", "neftune_noise_alpha"): _above_zero,
    ("trl", "pad_to_multiple_of"): _padding,
    ("trl", "torch_compile_backend"): _one_of(_COMPILE_BACKENDS),
    ("trl", "torch_compile_mode"): _one_of(_COMPILE_MODES),
    ("peft", "alpha_pattern"): _alphas,
    ("peft", "rank_pattern"): _ranks,
    ("peft", "trainable_token_indices"): _tokens,
}
"""By table and argument."""
