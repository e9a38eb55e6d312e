"""The values of a sweep's run as text. Standard library only."""

from collections.abc import Mapping
from typing import Any


def label(values: Mapping[str, Any]) -> str:
    """A combination on one line: ``beta=0.1 learning_rate=1e-06``."""
    return " ".join(f"{name}={value_text(value)}" for name, value in values.items())


def value_text(value: Any) -> str:
    """One value as a config file has it, as short as tells it from every other value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(map(value_text, value))
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)
