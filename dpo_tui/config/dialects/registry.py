"""Which dialect a flat file speaks. A new dialect is one module and one row here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dpo_tui.config.dialects import trl
from dpo_tui.config.dialects.fate import Conversion


@dataclass(frozen=True)
class Dialect:
    """A foreign config format."""

    name: str
    recognises: Callable[[Mapping[str, Any]], bool]
    convert: Callable[[Mapping[str, Any]], Conversion]


DIALECTS = (Dialect("trl dpo", trl.recognises, trl.convert),)


def dialect_of(raw: Mapping[str, Any]) -> Dialect | None:
    """Return the dialect that recognises the file; None for our own."""
    return next((dialect for dialect in DIALECTS if dialect.recognises(raw)), None)
