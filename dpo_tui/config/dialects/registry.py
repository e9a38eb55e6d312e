"""The dialects: config files of other tools, each recognised by its keys and converted to our settings.

Adding a dialect takes two places and changes nothing that exists:

1. a module here, for example ``torchtune.py``, with two functions::

       def recognises(raw: Mapping[str, Any]) -> bool:
           return "tokenizer" in raw and "checkpointer" in raw

       def convert(raw: Mapping[str, Any], folder: Path) -> Conversion:
           conversion = Conversion()
           convert_keys(conversion, raw, converted=_CONVERTED, renamed=RENAMED, dropped=DROPPED)
           conversion.fill_in(DEFAULTS, "torchtune")  # where the tool's defaults differ from ours
           return conversion

   ``DROPPED`` has the reason for every key that changes nothing here. A key that the tables do not name is a setting of
   ours, an argument of TRL, or undecided: the user is asked about it, and told of every other key.

2. a row in ``DIALECTS``.

`tests/config/dialects/test_dialects.py` reads one file of each dialect. What several need is in ``conversion.py``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_tui.config.dialects import (
    alignment_handbook,
    autotrain,
    axolotl,
    h2o_llm_studio,
    launcher_files,
    llama_factory,
    ms_swift,
    trl,
)
from dpo_tui.config.dialects.conversion import Conversion


@dataclass(frozen=True)
class Dialect:
    """The config format of another tool.

    Attributes:
        name: of the tool, for messages.
        recognises: whether a file is in this format.
        convert: reads such a file, and the files beside it that it names.
    """

    name: str
    recognises: Callable[[Mapping[str, Any]], bool]
    convert: Callable[[Mapping[str, Any], Path], Conversion]


# The first that recognises a file converts it, so the more specific come first: LLaMA-Factory, the alignment handbook
# and TRL share the key model_name_or_path.
DIALECTS = (
    Dialect("DeepSpeed", launcher_files.recognises_deepspeed, launcher_files.refuse_deepspeed),
    Dialect("accelerate", launcher_files.recognises_accelerate, launcher_files.refuse_accelerate),
    Dialect("LLaMA-Factory", llama_factory.recognises, llama_factory.convert),
    Dialect("ms-swift", ms_swift.recognises, ms_swift.convert),
    Dialect("AutoTrain", autotrain.recognises, autotrain.convert),
    Dialect("H2O LLM Studio", h2o_llm_studio.recognises, h2o_llm_studio.convert),
    Dialect("Axolotl", axolotl.recognises, axolotl.convert),
    Dialect("alignment-handbook", alignment_handbook.recognises, alignment_handbook.convert),
    Dialect("trl dpo", trl.recognises, trl.convert),
)


def dialect_of(raw: Mapping[str, Any]) -> Dialect | None:
    """Return the dialect that recognises the file; None for our own."""
    return next((dialect for dialect in DIALECTS if dialect.recognises(raw)), None)
