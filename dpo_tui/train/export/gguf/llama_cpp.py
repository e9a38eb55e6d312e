"""llama.cpp's converter from a model's folder to GGUF: where it is, and running it."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from dpo_tui.errors import TrainingError, UsageError
from dpo_tui.paths import expanded
from dpo_tui.processes.child_environment import child_environment
from dpo_tui.text.printable import printable

LLAMA_CPP_VARIABLE = "DPO_TUI_LLAMA_CPP"
"""Environment variable: a checkout of llama.cpp, or the converter in it. ``none`` stands for not looking on PATH."""
_SCRIPT = "convert_hf_to_gguf.py"
_ON_PATH = (_SCRIPT, "llama-convert-hf-to-gguf")
"""Commands of that name: of Homebrew and distributions, and of llama.cpp's Python package."""
_TAIL = 1 << 13
"""Bytes at the end of the converter's messages in which its last line is looked for."""


def find_converter() -> list[str] | None:
    """Return the command that starts llama.cpp's converter; None where there is none.

    Raises:
        UsageError: ``$DPO_TUI_LLAMA_CPP`` names something else.
    """
    named = os.environ.get(LLAMA_CPP_VARIABLE)
    if named == "none":
        return None
    if named:
        place = expanded(named)
        script = place / _SCRIPT if place.is_dir() else place
        if not script.is_file():
            raise UsageError(
                f"${LLAMA_CPP_VARIABLE} = {named}: there is no {_SCRIPT}",
                hint=f"name a checkout of llama.cpp or that file in it, or unset {LLAMA_CPP_VARIABLE}",
            )
        # With this interpreter, which has the libraries that the converter needs; without -P, as it imports modules
        # beside it.
        return [sys.executable, str(script)]
    # As it is installed there, with an interpreter of its own.
    return next(([found] for name in _ON_PATH if (found := shutil.which(name))), None)


def run_converter(command: list[str], folder: Path, target: Path, outtype: str, name: str) -> None:
    """Convert a model's folder.

    Args:
        command: of :func:`find_converter`.
        folder: of the model.
        target: the file to write.
        outtype: type of the matrices: f16, bf16 or q8_0.
        name: of the model, for people.

    Raises:
        TrainingError: the converter cannot be started, or it failed.
    """
    arguments = [*command, str(folder), "--outfile", str(target), "--outtype", outtype, "--model-name", name]
    # What it needs is in the folder: nothing is to be looked up on the hub.
    environment = child_environment() | {"HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile() as said:
        try:
            # It stays in this process's group, so that it ends with the export.
            done = subprocess.run(
                arguments, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, env=environment, check=False
            )
        except OSError as error:
            raise TrainingError(
                f"llama.cpp's converter {command[-1]} cannot be started: {error}", hint=_HINT
            ) from error
        size = said.seek(0, os.SEEK_END)
        said.seek(max(0, size - _TAIL))
        lines = said.read().decode("utf-8", "replace").strip().splitlines()
    if done.returncode or not target.is_file():
        reason = printable(lines[-1], single_line=True) if lines else f"exit code {done.returncode}"
        raise TrainingError(f"llama.cpp's converter {command[-1]} failed: {reason}", hint=_HINT)


def conversion_commands(outtype: str) -> str:
    """Return what to do by hand where no file can be written here, in one line for a shell."""
    script = shlex.quote(_SCRIPT)
    return (
        f"dpo-tui export RUN --to DIR --merge && python {script} DIR --outfile NAME.gguf --outtype {outtype}, "
        f"with the script of llama.cpp; or set {LLAMA_CPP_VARIABLE} to a checkout of it, and export does both"
    )


_HINT = (
    f"{LLAMA_CPP_VARIABLE}=/path/to/llama.cpp names another converter, "
    f"{LLAMA_CPP_VARIABLE}=none writes the file without one"
)
