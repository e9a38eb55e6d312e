"""`dpo-tui completion`: the script that makes a shell complete commands, options, and the ids and names of runs."""

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

_SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command()
@click.argument("shell", type=click.Choice(tuple(_SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    r"""Print the completion script of SHELL: bash, zsh or fish.

    \b
    bash  eval "$(dpo-tui completion bash)"   in ~/.bashrc
    zsh   eval "$(dpo-tui completion zsh)"    in ~/.zshrc
    fish  dpo-tui completion fish > ~/.config/fish/completions/dpo-tui.fish
    """
    click.echo(_SHELLS[shell](ctx.find_root().command, {}, "dpo-tui", "_DPO_TUI_COMPLETE").source())
