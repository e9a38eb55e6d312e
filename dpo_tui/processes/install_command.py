"""The shell command that installs a package into the environment of this interpreter. Standard library only."""

import importlib.util
import shlex
import sys


def install_command(*arguments: str) -> str:
    """The command, with the tool that this environment has: ``uv tool``, ``uvx`` and ``uv venv`` make one without pip.

    Args:
        arguments: of ``pip install``, which ``uv pip install`` takes too.
    """
    if importlib.util.find_spec("pip") is not None:
        return shlex.join([sys.executable, "-m", "pip", "install", *arguments])
    return shlex.join(["uv", "pip", "install", "--python", sys.executable, *arguments])
