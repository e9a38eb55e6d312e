"""The export of a run's result, as the command and the app do it: the check of the target, the request, the result."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dpo_tui.errors import UsageError
from dpo_tui.hardware.tool_gpu import tool_environment
from dpo_tui.processes.json_child import Message
from dpo_tui.processes.torch_tool import run_tool
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.text.printable import printable

GGUF_TYPES = ("f16", "bf16", "q8_0")
"""Types in which a GGUF file may hold the matrices of a model."""


@dataclass(frozen=True)
class ExportRequest:
    """What to export, and where to.

    Args:
        folder: the run.
        target: a folder that is not there yet, or empty.
        merge: whether to merge the adapter into its base.
        precision: of the merged weights: bf16, fp16 or fp32.
        check: whether to compare the merged model with base + adapter.
        share: whether the folder is to be uploaded: it then names no path of this machine.
        gguf: f16, bf16 or q8_0 for one GGUF file of the whole model; empty otherwise.
    """

    folder: RunFolder
    target: Path
    merge: bool
    precision: str = "bf16"
    check: bool = True
    share: bool = False
    gguf: str = ""


def check_export(folder: RunFolder, target: Path, gguf: str = "") -> None:
    """Check before an export what would make it fail.

    Args:
        folder: the run.
        target: where to.
        gguf: type of the GGUF file; empty where none is wanted.

    Raises:
        UsageError: the target is neither absent nor an empty folder, or the package for GGUF files is not installed.
        RunError: the run has no result.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target}: is there already", hint="name a folder that is not there, or an empty one")
    if gguf and importlib.util.find_spec("gguf") is None:
        raise UsageError(
            "GGUF files are written and read with the package gguf, which is not installed",
            hint="pip install 'dpo-tui[gguf]', or pip install gguf",
        )
    store.require_result(folder)


def run_export(
    request: ExportRequest, on_message: Callable[[Message], None], on_report: Callable[[str], None]
) -> Message:
    """Export in a child process, and return its result: ``target``, ``what``, ``check``, ``serve``.

    Args:
        request: what to export.
        on_message: called with every message of progress: ``message``, ``done``, ``total``.
        on_report: called with a sentence where the GPU taken is in use by a run.

    Raises:
        ChildError: it failed.
    """
    document = {
        "run": str(request.folder.path),
        "target": str(request.target.absolute()),
        "merge": request.merge,
        "precision": request.precision,
        "check": request.check,
        "share": request.share,
        "gguf": request.gguf or None,
    }
    return run_tool("export_run", document, on_message, environment=tool_environment(report=on_report))


def progress_text(message: Message) -> str:
    """A message of progress in words, with its count."""
    done, total = message.get("done"), message.get("total")
    count = f" {done}/{total}" if total else ""
    return f"{printable(str(message['message']), single_line=True)}{count}"


def remarks(exported: Message, *, merge: bool) -> list[str]:
    """What is to be said about an export: that there was nothing to merge, and the check of the merge.

    Args:
        exported: the result of `run_export`.
        merge: whether a merge was asked for.
    """
    whole = "This run trained every weight: there is no adapter to merge, its model is the result"
    nothing_to_merge = [whole] if merge and exported["what"] == "model" else []
    return [*nothing_to_merge, *([str(exported["check"])] if exported["check"] else [])]


def serve_lines(exported: Message) -> list[str]:
    """The commands that serve an export, below the program that they are of."""
    lines = ["To serve it:"]
    for program, commands in exported["serve"]:
        lines.append(f"  {program}")
        lines += [f"    {printable(line, single_line=True)}" for line in commands]
    return lines
