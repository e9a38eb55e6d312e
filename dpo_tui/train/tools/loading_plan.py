"""Child that says, before a run starts, what transformers would load of a model's files: from their headers alone.

The model is made on torch's meta device, and the weights are given to ``from_pretrained`` as tensors without data, so
that nothing is read or allocated. Names and layouts go through transformers' own conversion, as in a run.
"""

import re
import sys
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_utils import load_state_dict
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from dpo_tui.errors import ConfigError
from dpo_tui.train.model.model_class import model_class
from dpo_tui.train.tools.json_service import Send, serve

# What making a model of a config raises: transformers checks values with strict dataclasses, asserts and look-ups.
_REFUSALS = (
    StrictDataclassError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    RuntimeError,
)
_ERROR_NAME = re.compile(r"^\w+Error: ")
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def plan(request: dict[str, Any], send: Send) -> dict[str, Any]:
    """Handle a request for a plan.

    Args:
        request: ``model`` (a folder), ``files`` (names of its safetensors files), ``values`` (what [model_init]
            changes in its config).
        send: not used: there is no progress to report.

    Returns:
        ``unexpected``, names of tensors in the files; ``missing``, names of weights with ``*`` for every number between
        dots; ``mismatched``, such names with the shape in the files and the shape in the model; ``used``, how many
        tensors of the files are loaded.

    Raises:
        ConfigError: transformers makes no model of this config.
    """
    folder = Path(request["model"])
    weights: dict[str, Any] = {}
    for file in request["files"]:
        weights |= load_state_dict(str(folder / file), map_location="meta")
    try:
        chosen = model_class(folder)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, **request["values"])
        if chosen is AutoModelForCausalLM:
            # The Auto class would look for further files in the folder, which is not given here.
            chosen = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        _, loaded = chosen.from_pretrained(
            None,
            config=config,
            state_dict=weights,
            device_map="meta",
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except _REFUSALS as error:
        raise ConfigError(f"transformers makes no model of this config: {_reason(error)}") from error
    mismatched = {_pattern(name): [list(stored), list(made)] for name, stored, made in loaded["mismatched_keys"]}
    return {
        "missing": sorted({_pattern(name) for name in loaded["missing_keys"]}),
        "unexpected": sorted(loaded["unexpected_keys"]),
        "mismatched": mismatched,
        "used": len(weights) - len(loaded["unexpected_keys"]),
    }


def _pattern(name: str) -> str:
    return _NUMBER.sub("*", name)


def _reason(error: Exception) -> str:
    """The last line of an error that says anything: validators of configs put their own name first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[-1] if lines else type(error).__name__
    return f"it knows no {said}" if isinstance(error, KeyError) else _ERROR_NAME.sub("", said)


if __name__ == "__main__":
    sys.exit(serve(plan))
