"""How commands speak: data on stdout, narration on stderr."""

import json
import math
import sys
from typing import Any

import click


def print_json(document: Any) -> None:
    """Print one JSON document; numbers that JSON lacks (NaN, infinity) become null."""
    click.echo(json.dumps(_finite(document), indent=2, ensure_ascii=False, default=str))


def narrate(message: str) -> None:
    """Tell the person what happens, without touching the data on stdout."""
    click.echo(message, err=True)


def is_terminal() -> bool:
    """Whether a person watches: stderr is a terminal that can move its cursor."""
    return sys.stderr.isatty()


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
