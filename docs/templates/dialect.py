"""Template of a config dialect: copy to dpo_tui/config/dialects/NAME.py and add a row to config/dialects/registry.py.

Every key of the file gets an outcome: taken, renamed, dropped with a reason, or reported as unknown.
"""

from collections.abc import Mapping
from typing import Any

from dpo_tui.config.dialects.conversion import Conversion


def recognises(raw: Mapping[str, Any]) -> bool:
    """Whether a flat file is of this tool: by keys that no other tool has."""
    return "toy_trainer_version" in raw


def convert(raw: Mapping[str, Any]) -> Conversion:
    """Translate its keys into ours."""
    conversion = Conversion()
    for key, value in raw.items():
        if key == "model":
            conversion.take(key, "model_name", value)
        elif key == "toy_trainer_version":
            conversion.drop(key, "it says only which tool wrote the file")
        else:
            conversion.take(key, key, value)  # ours if it has this name; else it is reported as unknown
    return conversion
