"""Output of commands: data on stdout, narration on stderr."""

import json
import math
import os
import re
import sys
from typing import Any

import click

# C1 controls, marks that order a line anew, and what is not seen; U+2028 and U+2029 end lines for some readers.
_CONTROLS = re.compile(
    "[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff\ud800-\udfff]"
)
_WITHOUT_TERMINAL = 80
"""Columns of text for a file or a pipe."""


def print_json(document: Any) -> None:
    """Print one JSON document; numbers that JSON lacks (NaN, infinity) become null."""
    try:
        text = json.dumps(document, indent=2, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:  # few documents have such a number, and a list of many runs takes long to copy
        text = json.dumps(finite(document), indent=2, ensure_ascii=False, default=str)
    click.echo(escape_controls(text))


def escape_controls(text: str) -> str:
    """Write as JSON's escapes what JSON leaves as it is and a terminal obeys or hides: the document is the same."""
    return _CONTROLS.sub(lambda found: json.dumps(found.group())[1:-1].replace("\x7f", "\\u007f"), text)


def narrate(message: str) -> None:
    """Print a message to stderr, where it does not mix with the data on stdout."""
    click.echo(message, err=True)


def is_terminal() -> bool:
    """Whether narration goes to a terminal, in which a line can be overwritten."""
    return sys.stderr.isatty()


def terminal_columns() -> int | None:
    """Columns of the terminal behind stdout; ``COLUMNS`` overrides them; None for a file or a pipe.

    `shutil.get_terminal_size` does the same; importing `shutil` would slow `dpo-tui runs` and `status` down.
    """
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(1).columns or None
    except OSError:
        return None


def stdout_columns() -> int:
    """Columns that text for stdout may take: those of its terminal, or 80 for a file or a pipe."""
    return terminal_columns() or _WITHOUT_TERMINAL


def finite(value: Any) -> Any:
    """A copy of a document in which numbers that JSON lacks (NaN, infinity) are null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value
