"""Settings of a run's frozen config.toml, read without pydantic. Standard library only.

An unreadable config gives no settings and no error: lists and comparisons of runs show what else is known.
"""

import tomllib
from pathlib import Path
from typing import Any

_PASSED_ON = ("trl", "peft", "model_init")
"""As in `dpo_tui.config.schema`, which is above this module's imports."""


def read_settings(config: Path) -> dict[str, Any]:
    """Read a config file's settings by name, whichever tables they are in; empty when it cannot be read.

    What a config passes on to a library has the table's name before it: ``trl.neftune_noise_alpha``.
    """
    try:
        document = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return _flat(document)


def read_setting(config: Path, name: str) -> Any:
    """Read one setting that is written on one line; None when the file does not say.

    For lists of hundreds of runs, since parsing whole files takes ten times as long. A file that is damaged on other
    lines still gives the setting.
    """
    try:
        with config.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.partition("=")[0].strip() == name:
                    return tomllib.loads(line)[name]
    except (OSError, ValueError):
        return None
    return None


def _flat(document: dict[str, Any]) -> dict[str, Any]:
    # No setting is itself a table, so every table is a section, except those that are passed on to a library: their
    # keys may be names of settings, and have the table's name before them.
    found: dict[str, Any] = {}
    for key, value in document.items():
        if key in _PASSED_ON and isinstance(value, dict):
            found |= {f"{key}.{name}": item for name, item in value.items()}
        else:
            found |= value if isinstance(value, dict) else {key: value}
    return found
