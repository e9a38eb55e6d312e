"""Ranking by hand in a terminal: two answers one below the other, and the key that says which is better.

`dpo-tui judge` and `dpo-tui pairs` use it.
"""

import shutil
import sys
import textwrap
from collections.abc import Collection, Sequence
from typing import Any

import click

from dpo_tui.cli.output import narrate
from dpo_tui.text.printable import printable

_MOST_COLUMNS = 110


def show_answers(heading: str, prompt: Sequence[dict[str, Any]], left: str, right: str) -> None:
    """Print a prompt and two answers to it, to stderr.

    Args:
        heading: of the block.
        prompt: chat messages.
        left: the first answer.
        right: the second answer.
    """
    width = min(shutil.get_terminal_size().columns, _MOST_COLUMNS) - 2
    narrate(f"\n── {heading} " + "─" * (width - len(heading) - 4))
    for message in prompt:
        _paragraph(f"{message.get('role', '')}: {message.get('content', '')}", width)
    for label, text in (("LEFT", left), ("RIGHT", right)):
        narrate(f"\n{label}")
        _paragraph(text or "(an empty answer)", width)


def read_key(allowed: Collection[str], help_text: str) -> str:
    """Read keys until one is allowed, printing the help after every other one.

    Args:
        allowed: keys, in lower case; must hold ``q``, which the end of a pipe counts as.
        help_text: what each key does.
    """
    while (key := _next_key()) not in allowed:
        narrate(help_text)
    return key


def _paragraph(text: str, width: int) -> None:
    for line in printable(text).splitlines():
        narrate("\n".join(textwrap.wrap(line, width, initial_indent="  ", subsequent_indent="  ")) or "")


def _next_key() -> str:
    """The next key in a terminal; else the next letter on stdin that is no white space."""
    if sys.stdin.isatty():
        return click.getchar().lower()
    while letter := sys.stdin.read(1):
        if not letter.isspace():
            return letter.lower()
    return "q"
