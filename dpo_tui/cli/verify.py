"""`dpo-tui verify`: whether a run or an export is whole, loads, has learnt something, and is merged right."""

import os
from pathlib import Path

import click

from dpo_tui.cli.output import narrate, print_json
from dpo_tui.errors import RunNotFoundError
from dpo_tui.groups.group_store import find_run
from dpo_tui.hardware.tool_gpu import tool_environment
from dpo_tui.paths import expanded
from dpo_tui.processes.json_child import Message
from dpo_tui.processes.torch_tool import run_tool
from dpo_tui.runs import store
from dpo_tui.text.printable import printable

_MARKS = {"ok": "ok", "failed": "FAILED", "not checked": "not checked"}


@click.command()
@click.argument("target", metavar="RUN|DIR")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(target: str, as_json: bool) -> None:
    """Verify a run or an export: files, checkpoints, weights, merge. Exit code 1 if a check fails.

    RUN is an id, a unique prefix of it, a name, or `last`; DIR a folder that was exported.
    """
    folder = _folder(target)
    narrate("Loading the libraries takes a while")
    # Weights are compared in fp32 on the CPU: a GPU would not help, and runs may need it.
    request = {"folder": str(folder)}
    found = run_tool("verify_saved", request, _show_progress, environment=tool_environment("none"))
    if as_json:
        print_json({key: value for key, value in found.items() if key != "kind"})
    else:
        for check in found["checks"]:
            message = printable(str(check["message"]), single_line=True)
            click.echo(f"{_MARKS[check['status']]:<12} {printable(str(check['name']), single_line=True)}: {message}")
    if not found["ok"]:
        raise click.exceptions.Exit(1)


def _folder(target: str) -> Path:
    """Return the folder of a run, or else the folder that is named."""
    path = expanded(target)
    if os.sep not in target:
        try:
            run = find_run(target)
        except RunNotFoundError:
            if not path.is_dir():
                raise
        else:
            store.require_known_version(run)
            return run.path
    if not path.is_dir():
        raise RunNotFoundError(f"no such folder: {target}", hint="`dpo-tui runs` lists the runs")
    return path.resolve()


def _show_progress(message: Message) -> None:
    narrate(printable(str(message.get("message", "")), single_line=True))
