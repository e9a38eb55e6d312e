"""The shell command that installs a package into the environment of this interpreter. Standard library only."""

import importlib.util
import shlex
import sys


def uses_pip() -> bool:
    """Whether the environment has pip; those that ``uv tool``, ``uvx`` and ``uv venv`` make have none."""
    return importlib.util.find_spec("pip") is not None


def install_command(*arguments: str) -> str:
    """The command, with pip where the environment has it, else with uv.

    Args:
        arguments: of ``pip install``, or of ``uv pip install``, which takes most of the same.
    """
    if uses_pip():
        return shlex.join([sys.executable, "-m", "pip", "install", *arguments])
    return shlex.join(["uv", "pip", "install", "--python", sys.executable, *arguments])
