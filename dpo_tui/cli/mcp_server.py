"""`dpo-tui mcp`: runs, data and estimates as tools of the Model Context Protocol, over stdin and stdout."""

import click

from dpo_tui.errors import UsageError


@click.command("mcp")
@click.option("--allow-write", is_flag=True, help="Offer tools that start, stop and resume runs, too.")
def mcp(allow_write: bool) -> None:
    """Serve agents by the Model Context Protocol over stdin and stdout (docs/agents.md).

    Its tools read runs, configs and data. None that changes something exists without --allow-write.
    """
    try:
        from dpo_tui.cli.mcp_tools import make_server
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("mcp", "mcp_types"):
            raise
        from dpo_tui.processes.install_command import install_command

        raise UsageError("`dpo-tui mcp` needs the package mcp", hint=install_command("mcp>=2,<3")) from None
    make_server(allow_write=allow_write).run("stdio")
