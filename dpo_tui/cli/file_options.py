"""Options that say how the rows of data files are read; each has the name of its setting."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dpo_tui.errors import UsageError
from dpo_tui.text.encoding_names import is_text_encoding

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--prompt-field", help="The column that holds the prompt."),
    click.option("--chosen-field", help="The column of the preferred answer."),
    click.option("--rejected-field", help="The column of the other answer."),
    click.option("--system-field", help="The column of the system message."),
    click.option("--prefix-field", help="The column of the beginning that both answers share."),
    click.option("--label-field", help="The column that says which of two answers is better, or whether one is good."),
    click.option("--completion-field", help="The column of a labelled answer."),
    click.option(
        "--rating-threshold", type=float, help="The lowest rating of a desirable answer, where it has ratings."
    ),
    click.option("--ranking-pairs", type=click.Choice(["all", "best-worst"]), help="Which pairs of a list of answers."),
    click.option("--encoding", help="The encoding of files that are not UTF-8. [recognised]"),
)


def file_options(command: Command) -> Command:
    """Add the options to a command, in their order."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def require_known_encoding(name: str | None) -> None:
    """Check the value of ``--encoding``.

    Raises:
        UsageError: Python knows no such encoding.
    """
    if name and not is_text_encoding(name):
        raise UsageError(f"--encoding {name}: Python knows no encoding of text by that name")
