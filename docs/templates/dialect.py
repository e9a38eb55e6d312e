"""Template of a config dialect: copy to dpo_tui/config/dialects/NAME.py and add a row to config/dialects/registry.py.

Every key of the file gets an outcome: taken, renamed, passed on to TRL, dropped with a reason, or undecided.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpo_tui.config.dialects.conversion import Conversion, convert_keys

RENAMED = {"model": "model_name"}
DROPPED = {"toy_trainer_version": "it says only which tool wrote the file"}
DEFAULTS = {"warmup_ratio": 0.0}
"""Where the tool's defaults differ from ours."""


def recognises(raw: Mapping[str, Any]) -> bool:
    """Whether a file is of this tool: by keys that no other tool has."""
    return "toy_trainer_version" in raw


def convert(raw: Mapping[str, Any], folder: Path) -> Conversion:
    """Translate its keys into ours; files that it names are looked for from ``folder`` too."""
    conversion = Conversion()
    # A key that neither table has is a setting of ours, an argument of TRL, or left for the user to decide.
    convert_keys(conversion, raw, converted={}, renamed=RENAMED, dropped=DROPPED)
    conversion.fill_in(DEFAULTS, "the toy trainer")
    return conversion
