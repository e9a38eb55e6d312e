"""Validate settings by name: against the schema and against the rules on combinations, with every problem at once."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from dpo_tui.config import process_rules  # noqa: F401 - registers its rules
from dpo_tui.config.problems import ConfigProblem, from_validation, unknown_key
from dpo_tui.config.rules import broken_rules
from dpo_tui.config.schema import PASSTHROUGH, Config, default_of, fields
from dpo_tui.strategies.registry import DEFAULT, STRATEGIES


def validate(values: Mapping[str, Any]) -> Config | list[ConfigProblem]:
    """Return the config that settings make, or all their problems; a setting that is None has its default."""
    known = {name: value for name, value in values.items() if name in fields() and value is not None}
    strategy = STRATEGIES.get(str(known.get("strategy", DEFAULT)))
    known = {**(strategy.defaults if strategy else {}), **known}
    problems = [unknown_key(name, value) for name, value in values.items() if name not in fields()]
    try:
        config = Config(**known)
    except ValidationError as error:
        return [*problems, *from_validation(error, known)]
    return [*problems, *broken_rules(config)] or config


def with_newer(values: Mapping[str, Any], newer: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with some replaced.

    Args:
        values: settings by name; nothing is changed in place.
        newer: settings that win. ``trl.NAME`` is one argument in a passthrough table, ``trl.NAME.KEY`` a value in it.
            A warm-up in steps replaces one that is a ratio, and the other way round.
    """
    result = dict(values)
    for one, other in (("warmup_steps", "warmup_ratio"), ("warmup_ratio", "warmup_steps")):
        if newer.get(one) is not None and newer.get(other) is None:
            result.pop(other, None)
    for name, value in newer.items():
        table, _, inner = name.partition(".")
        result[table] = _with_inner(result.get(table), inner, value) if table in PASSTHROUGH and inner else value
    return result


def without_old_defaults(values: Mapping[str, Any], strategy: str) -> dict[str, Any]:
    """Return settings for another strategy: those that are at the default of their own strategy are left out.

    So a β of 0.1 that nobody chose becomes the β of the new strategy, and one that somebody chose stays.

    Args:
        values: a whole config by name.
        strategy: the new one.
    """
    old = str(values.get("strategy", DEFAULT))
    differing = {name for one in (old, strategy) if one in STRATEGIES for name in STRATEGIES[one].defaults}
    return {
        name: value
        for name, value in values.items()
        if old == strategy or name not in differing or value != default_of(name, old)
    }


def _with_inner(table: Any, name: str, value: Any) -> dict[str, Any]:
    first, _, rest = name.partition(".")
    inner = dict(table) if isinstance(table, Mapping) else {}
    return inner | {first: _with_inner(inner.get(first), rest, value) if rest else value}
