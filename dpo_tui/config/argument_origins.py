"""Where each argument that reaches a library came from: a setting, a passthrough table, dpo-tui, or the library."""

from collections.abc import Mapping
from typing import Any

from dpo_tui.config.files import LoadedConfig
from dpo_tui.config.passthrough_names import SETTING_FOR
from dpo_tui.config.schema import fields

_TABLES = {"LoraConfig": "peft", "from_pretrained": "model_init", "BitsAndBytesConfig": "model_init"}
_SETTINGS = {"load_in_4bit": "use_4bit", "attn_implementation": "attn_implementation", "warmup_steps": "warmup_ratio"}
"""Settings of other names that SETTING_FOR, which is of what a table may not set, does not have."""


def origin_of(loaded: LoadedConfig, library: str, name: str, value: Any, defaults: Mapping[str, Any]) -> str:
    """Return where an argument came from: ``setting (file)``, ``[table] (file)``, ``dpo-tui`` or ``library``.

    Args:
        loaded: the config.
        library: the class or function that takes the argument.
        name: of the argument.
        value: of the argument.
        defaults: the library's own, by name.
    """
    table = _TABLES.get(library, "trl")
    if name in getattr(loaded.config, table):
        return f"[{table}] ({loaded.origin(f'{table}.{name}')})"
    setting = SETTING_FOR[table].get(name) or _SETTINGS.get(name, name)
    if setting == "warmup_ratio" and loaded.config.warmup_steps is not None:
        setting = "warmup_steps"
    if setting in fields():
        return f"{setting} ({loaded.origin(setting)})"
    # What dpo-tui sets to the library's own default has the same effect as leaving it out.
    return "library" if name in defaults and defaults[name] == value else "dpo-tui"
