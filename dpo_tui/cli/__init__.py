"""The command line: one module a command group, each imported only when its command is called.

stdout is data, stderr is narration. Exit codes: 0 ok, 1 the run or check failed, 2 usage, config or data error, 3 no
such run, 130 stopped by the user.
"""

import errno
import importlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

import dpo_tui
from dpo_tui.errors import DpoTuiError, UsageError
from dpo_tui.text.printable import printable

# command -> "module:attribute"; the order is the order of `dpo-tui --help`.
COMMANDS = {
    "demo": "dpo_tui.cli.demo:demo",
    "train": "dpo_tui.cli.train:train",
    "runs": "dpo_tui.cli.show_runs:runs",
    "status": "dpo_tui.cli.show_runs:status",
    "logs": "dpo_tui.cli.show_runs:logs",
    "attach": "dpo_tui.cli.open_app:attach",
    "watch": "dpo_tui.cli.open_app:watch",
    "stop": "dpo_tui.cli.control_runs:stop",
    "checkpoint": "dpo_tui.cli.control_runs:checkpoint",
    "resume": "dpo_tui.cli.control_runs:resume",
    "rename": "dpo_tui.cli.control_runs:rename",
    "rm": "dpo_tui.cli.control_runs:rm",
    "hardware": "dpo_tui.cli.hardware:hardware",
    "doctor": "dpo_tui.cli.hardware:doctor",
    "inspect": "dpo_tui.cli.inspect:inspect",
    "estimate": "dpo_tui.cli.estimate:estimate",
    "config": "dpo_tui.cli.config:config",
    "eval": "dpo_tui.cli.evaluate:evaluate",
    "chat": "dpo_tui.cli.chat:chat",
    "judge": "dpo_tui.cli.judge:judge",
    "compare": "dpo_tui.cli.compare:compare",
    "pairs": "dpo_tui.cli.pairs:pairs",
    "export": "dpo_tui.cli.export:export",
    "paths": "dpo_tui.cli.show_paths:paths",
}


# What a machine may refuse to any command that reads or writes. Another OSError is a bug and keeps its traceback.
_REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


class LazyGroup(click.Group):
    """A click group that imports a command's module when the command is named, so that start-up stays fast."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Read the command line; `--help` prints here already."""
        with _exit_quietly_on_broken_pipe():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _exit_quietly_on_broken_pipe():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name every command, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their first lines."""
        rows = []
        for name in COMMANDS:
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(limit=2 * formatter.width)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(dpo_tui.__version__, package_name="dpo-tui")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Align a language model with your own preferences, from a terminal."""
    if ctx.invoked_subcommand is None:
        from dpo_tui.cli.open_app import open_app

        open_app()


def main() -> None:
    """Entry point of the ``dpo-tui`` command: run it and turn every known error into one message and an exit code."""
    _replace_unencodable()
    try:
        _check_words(sys.argv[1:])
        sys.exit(cli.main(standalone_mode=False) or 0)
    except DpoTuiError as error:
        _tell(error.message, error.hint)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as request:
        sys.exit(request.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        _tell(f"{error.filename or 'the output'}: {error.strerror}")
        _drop_stdout()
        sys.exit(1)


def _replace_unencodable() -> None:
    """Show "?" for a character that the terminal's encoding lacks, where Python would stop the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def _check_words(words: list[str]) -> None:
    """Refuse names that are not text: no config, report or run folder could hold them.

    Raises:
        UsageError: a word is not in the locale's encoding.
    """
    for word in words:
        if any("\ud800" <= character <= "\udfff" for character in word):
            raise UsageError(
                f"{word}: is not text in this locale's encoding", hint="Rename the file, or try `export LANG=C.UTF-8`."
            )


@contextmanager
def _exit_quietly_on_broken_pipe() -> Iterator[None]:
    """End well where the reader (head, less) went away, before click ends with 1."""
    try:
        yield
    except BrokenPipeError:
        _drop_stdout()
        raise click.exceptions.Exit(0) from None


def _drop_stdout() -> None:
    """Keep Python from complaining while it flushes what nobody can take."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(message: str, hint: str | None = None) -> None:
    # File names and keys in a message may carry escape sequences.
    click.echo(f"error: {printable(message)}", err=True)
    if hint:
        click.echo(f"  {printable(hint)}", err=True)
