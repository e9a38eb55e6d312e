"""The command line: the entry point, and `COMMANDS`, the table of all commands with their modules.

A command's module is imported only when the command is called.

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
    "improve": "dpo_tui.cli.improve:improve",
    "runs": "dpo_tui.cli.runs:runs",
    "status": "dpo_tui.cli.run_status:status",
    "logs": "dpo_tui.cli.run_logs:logs",
    "attach": "dpo_tui.cli.open_app:attach",
    "watch": "dpo_tui.cli.open_app:watch",
    "stop": "dpo_tui.cli.run_control:stop",
    "checkpoint": "dpo_tui.cli.run_control:checkpoint",
    "resume": "dpo_tui.cli.run_control:resume",
    "rename": "dpo_tui.cli.run_control:rename",
    "rm": "dpo_tui.cli.run_control:rm",
    "queue": "dpo_tui.cli.queue_control:queue",
    "hardware": "dpo_tui.cli.hardware:hardware",
    "doctor": "dpo_tui.cli.doctor:doctor",
    "inspect": "dpo_tui.cli.inspect:inspect",
    "estimate": "dpo_tui.cli.estimate:estimate",
    "config": "dpo_tui.cli.config:config",
    "eval": "dpo_tui.cli.evaluate:evaluate",
    "chat": "dpo_tui.cli.chat:chat",
    "judge": "dpo_tui.cli.judge:judge",
    "compare": "dpo_tui.cli.compare:compare",
    "pairs": "dpo_tui.cli.pairs:pairs",
    "export": "dpo_tui.cli.export:export",
    "verify": "dpo_tui.cli.verify:verify",
    "paths": "dpo_tui.cli.show_paths:paths",
    "completion": "dpo_tui.cli.completion:completion",
    "mcp": "dpo_tui.cli.mcp_server:mcp",
    "help": "dpo_tui.cli.help:help_command",
}


# Errors of the file system that any command can meet when it reads or writes. Another OSError is a bug of ours, and its
# traceback is shown.
_FILE_SYSTEM_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR}


class LazyGroup(click.Group):
    """A click group that imports a command's module when the command is named, so that start-up stays fast."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Parse the command line; `--help` prints and exits here."""
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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; the error for one that does not exist names what it may have been.

        Raises:
            UsageError: there is no such command.
        """
        if args and args[0] not in COMMANDS and not ctx.resilient_parsing:
            import difflib

            near = [name for name in COMMANDS if name.startswith(args[0])]
            near = near or difflib.get_close_matches(args[0], COMMANDS, n=3, cutoff=0.6)
            known = f"Did you mean {' or '.join(near)}?" if near else "`dpo-tui --help` lists all commands."
            raise UsageError(f"there is no command {args[0]!r}", hint=known)
        return super().resolve_command(ctx, args)

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
        _check_encoding(sys.argv[1:])
        sys.exit(cli.main(prog_name="dpo-tui", standalone_mode=False) or 0)
    except DpoTuiError as error:
        _print_error(error.message, error.hint)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as request:
        sys.exit(request.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except OSError as error:
        if error.errno not in _FILE_SYSTEM_ERRORS:
            raise
        _print_file_system_error(error)
        _drop_stdout()
        sys.exit(1)


def _print_file_system_error(error: OSError) -> None:
    """Name the file; of one below the home folder also what to set."""
    from dpo_tui import paths

    where = error.filename
    try:
        below_home = isinstance(where, str) and paths.home() in (path := paths.expanded(where), *path.parents)
    except DpoTuiError:
        below_home = False
    if below_home:
        refused = paths.home_error(f"{where} cannot be used", error)
        _print_error(refused.message, refused.hint)
    else:
        _print_error(f"{where or 'the output'}: {error.strerror}")


def _replace_unencodable() -> None:
    """Show "?" for a character that the terminal's encoding lacks, where Python would stop the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def _check_encoding(arguments: list[str]) -> None:
    """Check that every argument is text, which configs, reports and run folders can hold.

    Raises:
        UsageError: an argument is not in the locale's encoding.
    """
    for argument in arguments:
        # Python decodes bytes that are not in the encoding as lone surrogates (PEP 383).
        if any("\ud800" <= character <= "\udfff" for character in argument):
            raise UsageError(
                f"{argument}: is not text in this locale's encoding",
                hint="Rename the file, or try `export LANG=C.UTF-8`.",
            )


@contextmanager
def _exit_quietly_on_broken_pipe() -> Iterator[None]:
    """Exit with 0 when the reader of a pipe (head, less) has closed it, where click would exit with 1."""
    try:
        yield
    except BrokenPipeError:
        _drop_stdout()
        raise click.exceptions.Exit(0) from None


def _drop_stdout() -> None:
    """Replace stdout by /dev/null, so that the interpreter's last flush cannot fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_error(message: str, hint: str | None = None) -> None:
    # File names and keys in a message may carry escape sequences.
    click.echo(f"error: {printable(message)}", err=True)
    if hint:
        click.echo(f"  {printable(hint)}", err=True)
