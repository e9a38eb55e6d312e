"""Settings of a run's frozen config.toml, read without pydantic. Standard library only.

An unreadable config gives no settings and no error: lists and comparisons of runs show what else is known.
"""

from pathlib import Path
from typing import Any

from dpo_tui.runs.atomic_files import only_regular
from dpo_tui.text.plain_documents import parse_toml

_PASSED_ON = ("trl", "peft", "model_init")
"""As in `dpo_tui.config.schema`, which is above this module's imports."""


_TABLES = ("chat_template_kwargs",)
"""Settings whose values are tables."""


def read_settings(config: Path) -> dict[str, Any]:
    """Read a config file's settings by name, whichever tables they are in; empty when it cannot be read.

    What a config passes on to a library has the table's name before it: ``trl.neftune_noise_alpha``.
    """
    try:
        document = parse_toml(_text(config))
    except (OSError, ValueError):
        return {}
    return _flat(document)


def read_setting(config: Path, name: str) -> Any:
    """Read one setting that is written on one line; None when the file does not say.

    For lists of hundreds of runs, since parsing whole files takes ten times as long. A file that is damaged on other
    lines still gives the setting.
    """
    try:
        with open(config, encoding="utf-8", errors="replace", opener=only_regular) as lines:
            for line in lines:
                if line.partition("=")[0].strip() == name:
                    return parse_toml(line)[name]
    except (OSError, ValueError):
        return None
    return None


def _text(config: Path) -> str:
    with open(config, encoding="utf-8", opener=only_regular) as stream:
        return stream.read()


def _flat(table: dict[str, Any]) -> dict[str, Any]:
    # Every table is a section, but for settings that are tables themselves, and for those that are passed on to a
    # library: their keys may be names of settings, and have the table's name before them.
    found: dict[str, Any] = {}
    for key, value in table.items():
        if not isinstance(value, dict) or key in _TABLES:
            found[key] = value
        elif key in _PASSED_ON:
            found |= {f"{key}.{name}": item for name, item in value.items()}
        else:
            found |= _flat(value)
    return found
