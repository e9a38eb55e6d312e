"""What became of a key of a foreign config."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class KeyOutcome:
    """One row of the table that `config convert` prints.

    Attributes:
        key: the key in the foreign file, or ours where the other tool's default was filled in.
        fate: taken as it is, renamed, dropped, or filled in with the other tool's default.
        to: our setting, empty where it was dropped.
        why: the reason, where the fate needs one.
    """

    key: str
    fate: Literal["taken", "renamed", "dropped", "filled in"]
    to: str = ""
    why: str = ""


@dataclass
class Conversion:
    """Our settings made from a foreign file, with the fate of every key, in the file's order."""

    values: dict[str, Any] = field(default_factory=dict)
    fates: list[KeyOutcome] = field(default_factory=list)

    def take(self, key: str, to: str, value: Any, why: str = "") -> None:
        """Keep a value under our name."""
        self.values[to] = value
        self.fates.append(KeyOutcome(key, "taken" if key == to else "renamed", to, why))

    def drop(self, key: str, why: str) -> None:
        """Leave a key out, with the reason."""
        self.fates.append(KeyOutcome(key, "dropped", "", why))

    def fill_in(self, defaults: Mapping[str, Any], tool: str) -> None:
        """Add the other tool's defaults where the file is silent and ours differ, so that the run stays the same."""
        for name, value in defaults.items():
            if name not in self.values:
                self.values[name] = value
                self.fates.append(KeyOutcome(name, "filled in", name, f"{tool}'s default, {value!r}"))
