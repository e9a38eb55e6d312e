"""Which dialect a flat file speaks. A new dialect is one module and one row here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dpo_tui.config.dialects import axolotl, llama_factory, trl
from dpo_tui.config.dialects.conversion import Conversion


@dataclass(frozen=True)
class Dialect:
    """A foreign config format."""

    name: str
    recognises: Callable[[Mapping[str, Any]], bool]
    convert: Callable[[Mapping[str, Any]], Conversion]


# The more particular first: LLaMA-Factory names its model as TRL does.
DIALECTS = (
    Dialect("LLaMA-Factory", llama_factory.recognises, llama_factory.convert),
    Dialect("Axolotl", axolotl.recognises, axolotl.convert),
    Dialect("trl dpo", trl.recognises, trl.convert),
)


def dialect_of(raw: Mapping[str, Any]) -> Dialect | None:
    """Return the dialect that recognises the file; None for our own."""
    return next((dialect for dialect in DIALECTS if dialect.recognises(raw)), None)
