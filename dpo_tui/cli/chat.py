"""`dpo-tui chat`: a conversation with the tuned model, its base model, or both side by side."""

import sys
from collections.abc import Iterator
from typing import Any

import click

from dpo_tui.cli.output import narrate
from dpo_tui.cli.run_argument import RUN
from dpo_tui.groups.group_store import find_run
from dpo_tui.hardware.tool_gpu import tool_environment
from dpo_tui.processes.torch_tool import TorchTool
from dpo_tui.runs import store
from dpo_tui.text.printable import printable

_SIDES = {"both": ("base", "tuned"), "tuned": ("tuned",), "base": ("base",)}
_HELP = "An empty line or ctrl+d ends it; /new forgets the conversation."


@click.command()
@click.argument("run", type=RUN)
@click.option("--side", type=click.Choice(list(_SIDES)), default="both", show_default=True, help="Who answers.")
@click.option("--system", help="A system message to begin with.")
@click.option("--max-new-tokens", type=click.IntRange(1, 8192), default=256, show_default=True, help="Longest answer.")
@click.option("--temperature", type=click.FloatRange(0, 2), default=0.0, show_default=True, help="0 is greedy.")
def chat(*, run: str, side: str, system: str | None, max_new_tokens: int, temperature: float) -> None:
    """Talk with the tuned model beside its base; each goes on with its own answers.

    RUN is an id, a unique prefix of it, a name, or `last`. Questions also come from a pipe, one a line.
    """
    folder = find_run(run)
    store.require_result(folder)
    narrate("Loading the libraries and the model takes a while")
    start = [{"role": "system", "content": system}] if system else []
    with TorchTool("generate", environment=tool_environment()) as tool:
        for message in tool.ask({"do": "load-run", "run": str(folder.path)}):
            if message["kind"] == "result":
                narrate(f"{message['device']}. {_HELP}")
        # Each side has a history of its own: the answers differ, and so do the conversations that follow from them.
        histories: dict[str, list[dict[str, Any]]] = {who: list(start) for who in _SIDES[side]}
        for turn, question in enumerate(_read_questions()):
            if question == "/new":
                histories = {who: list(start) for who in histories}
                continue
            for who, history in histories.items():
                history.append({"role": "user", "content": question})
                click.echo(f"\n[{who}]")
                request = {
                    "do": "reply",
                    "who": who,
                    "messages": history,
                    "max_new_tokens": max_new_tokens,
                    "temperature": temperature,
                    "seed": turn,
                }
                history.append({"role": "assistant", "content": _print_streamed(tool, request)})
            click.echo()


def _print_streamed(tool: TorchTool, request: dict[str, Any]) -> str:
    """Print an answer as it comes, and return it."""
    text = ""
    for message in tool.ask(request):
        if message["kind"] == "text":
            click.echo(printable(str(message["text"])), nl=False)
            sys.stdout.flush()
        elif message["kind"] == "result":
            text = str(message["text"])
            click.echo("" if message["stopped"] else " …")
    return text


def _read_questions() -> Iterator[str]:
    """Yield the questions; an empty line ends them in a terminal and is skipped in a pipe."""
    interactive = sys.stdin.isatty()
    while True:
        if interactive:
            click.echo("\nyou> ", nl=False, err=True)
        line = sys.stdin.readline()
        question = line.strip()
        if not line or (interactive and not question):
            return
        if question:
            yield question
