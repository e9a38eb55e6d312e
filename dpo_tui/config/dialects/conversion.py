"""The result of reading another tool's config file: our settings and the outcome of each key.

Also the conversions that several dialects need: numbers that YAML reads as text, warm-up, trackers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

OWN_FOLDER = "a run has a folder of its own; `dpo-tui paths` says where"
ONE_GPU = "a run uses one GPU"


@dataclass(frozen=True)
class KeyOutcome:
    """One row of the table that `config convert` prints.

    Attributes:
        key: the key in the foreign file, or ours where the other tool's default was filled in.
        outcome: taken as it is, renamed, dropped, or filled in with the other tool's default.
        to: our setting, empty where it was dropped.
        why: the reason, where the outcome needs one.
    """

    key: str
    outcome: Literal["taken", "renamed", "dropped", "filled in"]
    to: str = ""
    why: str = ""


@dataclass
class Conversion:
    """Our settings made from a foreign file, with the outcome of every key, in the file's order."""

    values: dict[str, Any] = field(default_factory=dict)
    outcomes: list[KeyOutcome] = field(default_factory=list)

    def take(self, key: str, to: str, value: Any, why: str = "") -> None:
        """Keep a value under our name."""
        self.values[to] = value
        self.outcomes.append(KeyOutcome(key, "taken" if key == to else "renamed", to, why))

    def drop(self, key: str, why: str) -> None:
        """Leave a key out, with the reason."""
        self.outcomes.append(KeyOutcome(key, "dropped", "", why))

    def fill_in(self, defaults: Mapping[str, Any], tool: str) -> None:
        """Add the other tool's default for each setting that the file leaves out, so that the training is the same."""
        for name, value in defaults.items():
            if name not in self.values:
                self.values[name] = value
                self.outcomes.append(KeyOutcome(name, "filled in", name, f"{tool}'s default, {value!r}"))


def number(value: Any) -> Any:
    """Convert text such as ``5e-7``, which YAML 1.1 does not read as a number; return everything else unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def warmup_share(value: Any) -> float | None:
    """The share of the steps that a warm-up value means; None for a number of steps, or anything else.

    Transformers 5 reads ``warmup_steps`` below 1 as a share of all steps.
    """
    share = number(value)
    if isinstance(share, (int, float)) and not isinstance(share, bool) and 0 <= share < 1:
        return float(share)
    return None


def warmup(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    """Take a warm-up that is a share of the steps; drop one that is a number of steps, and use the usual 0.1."""
    share = warmup_share(value)
    if share is not None:
        conversion.take(key, "warmup_ratio", share)
    else:
        conversion.drop(key, "a number of steps; warmup_ratio is a part of all steps, 0.1 is usual")
        conversion.values.setdefault("warmup_ratio", 0.1)


def held_out(conversion: Conversion, key: str, value: Any, default: float) -> None:
    """Take a held-out share; drop a number of rows, and use the default share.

    Args:
        conversion: receives the outcome.
        key: the foreign key.
        value: a share below 1, or a number of rows.
        default: of ``eval_split``.
    """
    share = number(value)
    if isinstance(share, (int, float)) and share >= 1:
        conversion.drop(key, "a number of rows; eval_split is a part of them, 0.1 by default")
        conversion.values["eval_split"] = default
    else:
        conversion.take(key, "eval_split", share)


def trackers(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    """Take the named trackers; "none" and "all" name none."""
    names = [value] if isinstance(value, str) else list(value or [])
    conversion.take(key, "report_to", [name for name in names if name not in {"none", "all"}])
