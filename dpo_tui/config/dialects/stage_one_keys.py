"""Keys that other tools read in supervised fine-tuning: packing, and which tokens are trained."""

from collections.abc import Mapping
from typing import Any

from dpo_tui.config.dialects.conversion import Conversion, switch

_NOT_PACKED = "rows of preference training are not packed"


def is_stage_one(conversion: Conversion) -> bool:
    """Whether the file was recognised as one of supervised fine-tuning."""
    return conversion.values.get("strategy") == "sft"


def packing(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    """Take packing in stage one; it changes no loss of preference training, where it is dropped."""
    if not switch(value):
        conversion.drop(key, "is off")
    elif is_stage_one(conversion):
        conversion.take(key, "packing", True, "the conversations of a sequence do not see each other")
    else:
        conversion.drop(key, _NOT_PACKED)


def evaluation_packing(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    """Pass on whether held-out rows are packed, which TRL has as ``eval_packing``."""
    if is_stage_one(conversion):
        conversion.pass_on(key, "trl", "eval_packing", switch(value))
    else:
        conversion.drop(key, _NOT_PACKED if switch(value) else "is off")


def train_answers(conversion: Conversion, tool: str) -> None:
    """Train the answers of conversations alone, where a file of stage one says nothing else: the others' default."""
    trained = {"completion_only_loss", "assistant_only_loss"} & conversion.values.keys()
    if is_stage_one(conversion) and not trained:
        conversion.fill_in({"assistant_only_loss": True}, tool)


def last_answer(conversion: Conversion, key: str) -> None:
    """Train the last answer of each conversation alone, and nothing else."""
    conversion.values["assistant_only_loss"] = False
    conversion.take(key, "completion_only_loss", True)


def every_token(conversion: Conversion, key: str) -> None:
    """Train questions too, as TRL does without its options."""
    conversion.take(key, "assistant_only_loss", False)


def eight_bit_table(conversion: Conversion, key: str) -> None:
    """Ask for int8 weights of bitsandbytes, for which there is no setting, in [model_init]."""
    conversion.pass_on(key, "model_init", "quantization_config", {"load_in_8bit": True})
