"""Two answers one below the other in a terminal, and the key that says which is better."""

import shutil
import sys
import textwrap
from collections.abc import Collection as Keys
from collections.abc import Sequence
from typing import Any

import click

from dpo_tui.cli.output import narrate
from dpo_tui.text.printable import printable

_WIDEST = 110


def show(heading: str, prompt: Sequence[dict[str, Any]], left: str, right: str) -> None:
    """Show a prompt and two answers to it."""
    width = min(shutil.get_terminal_size().columns, _WIDEST) - 2
    narrate(f"\n── {heading} " + "─" * (width - len(heading) - 4))
    for turn in prompt:
        _paragraph(f"{turn.get('role', '')}: {turn.get('content', '')}", width)
    for label, text in (("LEFT", left), ("RIGHT", right)):
        narrate(f"\n{label}")
        _paragraph(text or "(an empty answer)", width)


def key_of(allowed: Keys[str], help_text: str) -> str:
    """Wait for one of the keys: pressed, or the next letter of a pipe, at whose end it is ``q``."""
    while (key := _key()) not in allowed:
        narrate(help_text)
    return key


def _paragraph(text: str, width: int) -> None:
    for line in printable(text).splitlines():
        narrate("\n".join(textwrap.wrap(line, width, initial_indent="  ", subsequent_indent="  ")) or "")


def _key() -> str:
    if sys.stdin.isatty():
        return click.getchar().lower()
    while letter := sys.stdin.read(1):
        if not letter.isspace():
            return letter.lower()
    return "q"
