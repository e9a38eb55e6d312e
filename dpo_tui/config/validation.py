"""Validate settings by name: against the schema and against the rules on combinations, with every problem at once."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from dpo_tui.config.problems import ConfigProblem, from_validation, unknown_key
from dpo_tui.config.rules import broken_rules
from dpo_tui.config.schema import PASSTHROUGH, Config, fields


def validate(values: Mapping[str, Any]) -> Config | list[ConfigProblem]:
    """Return the config that settings make, or all their problems; a setting that is None has its default."""
    known = {name: value for name, value in values.items() if name in fields() and value is not None}
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


def _with_inner(table: Any, name: str, value: Any) -> dict[str, Any]:
    first, _, rest = name.partition(".")
    inner = dict(table) if isinstance(table, Mapping) else {}
    return inner | {first: _with_inner(inner.get(first), rest, value) if rest else value}
