"""The command line: one module a command group, each imported only when its command is called.

stdout is data, stderr is narration. Exit codes: 0 ok, 1 the run or check failed, 2 usage, config or data error, 3 no
such run, 130 stopped by the user.
"""

import importlib
import os
import sys

import click

import dpo_tui
from dpo_tui.errors import DpoTuiError
from dpo_tui.plain import printable

# command -> "module:attribute"; the order is the order of `dpo-tui --help`.
COMMANDS = {
    "demo": "dpo_tui.cli.demo:demo",
    "train": "dpo_tui.cli.train:train",
    "runs": "dpo_tui.cli.look:runs",
    "status": "dpo_tui.cli.look:status",
    "logs": "dpo_tui.cli.look:logs",
    "attach": "dpo_tui.cli.app:attach",
    "watch": "dpo_tui.cli.app:watch",
    "stop": "dpo_tui.cli.steer:stop",
    "checkpoint": "dpo_tui.cli.steer:checkpoint",
    "resume": "dpo_tui.cli.steer:resume",
    "rename": "dpo_tui.cli.steer:rename",
    "rm": "dpo_tui.cli.steer:rm",
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
    "paths": "dpo_tui.cli.paths:paths",
}


class LazyGroup(click.Group):
    """A click group that imports a command's module when the command is named, so that start-up stays fast."""

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
        from dpo_tui.cli.app import open_app

        open_app()


def main() -> None:
    """Entry point of the ``dpo-tui`` command: run it and turn every known error into one message and an exit code."""
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except DpoTuiError as error:
        # File names and keys in a message may carry escape sequences.
        click.echo(f"error: {printable(error.message)}", err=True)
        if error.hint:
            click.echo(f"  {printable(error.hint)}", err=True)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as request:
        sys.exit(request.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        # The reader (head, less) went away: say nothing, and keep Python from complaining while it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
