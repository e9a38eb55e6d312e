"""`dpo-tui help`: the help of a command, or of all commands as one JSON document for programs."""

import inspect
from typing import Any

import click

from dpo_tui.cli.output import print_json

EXIT_CODES = {
    0: "ok",
    1: "the run or the check failed",
    2: "usage, config or data error",
    3: "no such run",
    130: "stopped by the user",
}


@click.command("help")
@click.argument("command", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print every command, argument, option and exit code as JSON.")
@click.pass_context
def help_command(ctx: click.Context, command: tuple[str, ...], as_json: bool) -> None:
    """Print the help of COMMAND, such as `config check`, or of dpo-tui."""
    current = ctx.find_root()
    for name in command:
        group = current.command
        found = group.resolve_command(current, [name])[1] if isinstance(group, click.Group) else None
        if found is None:
            raise click.UsageError(f"`{current.command_path}` has no commands, and {name!r} is not one.")
        current = click.Context(found, info_name=name, parent=current)
    if not as_json:
        click.echo(current.get_help())
        return
    print_json({**describe(current.command, current), "exit_codes": EXIT_CODES})


def describe(command: click.Command, ctx: click.Context) -> dict[str, Any]:
    """Describe a command and all below it: what it does, what it takes, what it prints as JSON.

    Args:
        command: the command or group.
        ctx: its context, whose path is its full name.
    """
    parameters = [parameter for parameter in command.get_params(ctx) if not getattr(parameter, "hidden", False)]
    description: dict[str, Any] = {
        "command": ctx.command_path,
        "help": inspect.cleandoc(command.help or "").replace("\b\n", ""),
        "arguments": [_argument(item, ctx) for item in parameters if isinstance(item, click.Argument)],
        "options": [_option(item) for item in parameters if isinstance(item, click.Option)],
    }
    if isinstance(command, click.Group):
        described = []
        for name in command.list_commands(ctx):
            inner = command.get_command(ctx, name)
            if inner is not None and not inner.hidden:
                described.append(describe(inner, click.Context(inner, info_name=name, parent=ctx)))
        description["commands"] = described
    return description


def _argument(argument: click.Argument, ctx: click.Context) -> dict[str, Any]:
    return {
        "name": argument.make_metavar(ctx),
        "required": argument.required,
        "several": argument.nargs == -1,
        "type": argument.type.name,
    }


def _option(option: click.Option) -> dict[str, Any]:
    described: dict[str, Any] = {
        "flags": [*option.opts, *option.secondary_opts],
        "help": option.help or "",
        "required": option.required,
        "several": option.multiple,
        "takes_value": not option.is_flag and not option.count,
        "type": option.type.name,
    }
    if isinstance(option.type, click.Choice):
        described["choices"] = list(option.type.choices)
    return described
