"""The dialects: config files of other tools, each recognised by its keys and converted to our settings.

Adding a dialect takes two places and changes nothing that exists:

1. a module here, for example ``torchtune.py``, with two functions::

       def recognises(raw: Mapping[str, Any]) -> bool:
           return "tokenizer" in raw and "checkpointer" in raw

       def convert(raw: Mapping[str, Any]) -> Conversion:
           conversion = Conversion()
           for key, value in raw.items():
               if key in RENAMED:
                   conversion.take(key, RENAMED[key], number(value))
               elif key in DROPPED:
                   conversion.drop(key, DROPPED[key])  # with the reason
               else:
                   conversion.take(key, key, value)  # an unknown key is then reported with the nearest name
           conversion.fill_in(DEFAULTS, "torchtune")  # where the tool's defaults differ from ours
           return conversion

2. a row in ``DIALECTS``.

`tests/config/dialects/test_dialects.py` reads one file of each dialect. What several need is in ``conversion.py``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dpo_tui.config.dialects import axolotl, llama_factory, trl
from dpo_tui.config.dialects.conversion import Conversion


@dataclass(frozen=True)
class Dialect:
    """The config format of another tool.

    Attributes:
        name: of the tool, for messages.
        recognises: whether a flat file is in this format.
        convert: reads such a file.
    """

    name: str
    recognises: Callable[[Mapping[str, Any]], bool]
    convert: Callable[[Mapping[str, Any]], Conversion]


# The first that recognises a file converts it, so the more specific come first: LLaMA-Factory and TRL share the key
# model_name_or_path.
DIALECTS = (
    Dialect("LLaMA-Factory", llama_factory.recognises, llama_factory.convert),
    Dialect("Axolotl", axolotl.recognises, axolotl.convert),
    Dialect("trl dpo", trl.recognises, trl.convert),
)


def dialect_of(raw: Mapping[str, Any]) -> Dialect | None:
    """Return the dialect that recognises the file; None for our own."""
    return next((dialect for dialect in DIALECTS if dialect.recognises(raw)), None)
