"""Conversions for the methods without a reference: ORPO, SimPO and CPO in the files of other tools."""

from collections.abc import Mapping
from typing import Any

from dpo_tui.config.dialects.conversion import Conversion, number
from dpo_tui.strategies import registry


def arguments_of(name: Any) -> str:
    """Return TRL's class of arguments for what a foreign file trains: a strategy of that name, else DPO or SFT."""
    described = registry.STRATEGIES.get(str(name).lower())
    return described.trl_arguments if described else "DPOConfig"


def without_reference(conversion: Conversion, defaults: Mapping[str, Mapping[str, Any]], tool: str) -> None:
    """Fill in the other tool's defaults of the strategy that was found, where it has no reference.

    Args:
        conversion: its keys are converted.
        defaults: by strategy.
        tool: name of the other tool.
    """
    conversion.fill_in(defaults.get(str(conversion.values.get("strategy")), {}), tool)


def setting_of_strategy(conversion: Conversion, key: str, value: Any, found: str, wanted: frozenset[str]) -> None:
    """Take a setting of some strategies only, under its own name, and drop it where the file trains another.

    Args:
        conversion: receives the outcome.
        key: the name, in the file and here.
        value: its value.
        found: what the file trains.
        wanted: the strategies that have the setting.
    """
    if found in wanted:
        conversion.take(key, key, number(value))
    else:
        conversion.drop(key, f"is read with {' or '.join(sorted(wanted))} only")
