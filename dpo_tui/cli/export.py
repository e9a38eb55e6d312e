"""`dpo-tui export`: write a run's adapter or merged model into a folder, and upload it with ``--push``."""

import sys
from pathlib import Path

import click
from click.core import ParameterSource

from dpo_tui.cli.output import narrate
from dpo_tui.cli.run_argument import RUN
from dpo_tui.errors import UsageError
from dpo_tui.groups.group_store import find_run
from dpo_tui.hub.upload import UploadManifest, check_push, push
from dpo_tui.text.printable import printable
from dpo_tui.views.export_job import (
    GGUF_TYPES,
    ExportRequest,
    check_export,
    progress_text,
    remarks,
    run_export,
    serve_lines,
)


@click.command()
@click.argument("run", type=RUN)
@click.option("--to", "target", type=click.Path(path_type=Path), required=True, help="A folder that is not there yet.")
@click.option("--merge", is_flag=True, help="Merge the adapter into its base: one folder that loads by itself.")
@click.option(
    "--precision",
    type=click.Choice(["bf16", "fp16", "fp32"]),
    default="bf16",
    show_default=True,
    help="Of the merged weights.",
)
@click.option(
    "--gguf",
    type=click.Choice(GGUF_TYPES),
    help="One GGUF file for llama.cpp and Ollama, of base and adapter in one, with its matrices in this type.",
)
@click.option("--no-check", is_flag=True, help="Do not compare what is merged or converted with what it was made of.")
@click.option("--push", "repository", metavar="REPO", help="Upload the folder to this private repository of the hub.")
@click.option("--public", is_flag=True, help="With --push: to a repository that everyone can read.")
@click.option("--yes", is_flag=True, help="With --push: upload without asking.")
def export(
    *,
    run: str,
    target: Path,
    merge: bool,
    precision: str,
    gguf: str | None,
    no_check: bool,
    repository: str | None,
    public: bool,
    yes: bool,
) -> None:
    """Write a run's result into a folder: adapter, merged model or GGUF file, tokenizer, model card, curves.

    RUN is an id, a unique prefix of it, a name, or `last`.
    """
    folder = find_run(run)
    given = click.get_current_context().get_parameter_source("precision")
    if gguf and given != ParameterSource.DEFAULT:
        raise UsageError("--gguf and --precision name two types for the weights", hint="leave --precision out")
    check_export(folder, target, gguf or "")
    if repository:
        check_push(repository)
        if not yes and not sys.stdin.isatty():
            raise UsageError("--push asks before it uploads, and there is no terminal to ask in", hint="add --yes")
    request = ExportRequest(
        folder, target, merge, precision, check=not no_check, share=bool(repository), gguf=gguf or ""
    )
    narrate("Loading the libraries takes a while")
    exported = run_export(request, lambda message: narrate(progress_text(message)), narrate)
    for remark in remarks(exported, merge=merge):
        narrate(remark)
    click.echo(exported["target"])
    narrate("")
    for line in serve_lines(exported):
        narrate(line)
    if repository:
        ask_and_push(target.absolute(), repository, public=public, yes=yes)


def ask_and_push(target: Path, repository: str, *, public: bool, yes: bool) -> None:
    """Say what would be uploaded, ask, and upload."""
    manifest = UploadManifest.of(target)
    who = "everyone can read it" if public else "private"
    narrate(f"\nTo upload to {printable(repository, single_line=True)} ({who}), {manifest.total_mb:,.1f} MB:")
    for line in manifest.lines():
        narrate(f"  {printable(line, single_line=True)}")
    if not yes and not click.confirm("Upload this?", default=False, err=True):
        narrate(f"Nothing was uploaded; {printable(str(target), single_line=True)} is written.")
        return
    click.echo(push(target, repository, public=public))
