"""Environment variables for a child process that runs our own modules. Standard library only, as the launchers are."""

import os
from pathlib import Path

import dpo_tui


def child_environment() -> dict[str, str]:
    """This process's environment, with ``PYTHONPATH`` set so that a child imports the same ``dpo_tui``.

    For a source checkout its absolute path comes first in ``PYTHONPATH``: a child may run in another folder, and
    ``python -P`` does not search the current one.
    """
    environment = dict(os.environ)
    root = Path(dpo_tui.__file__).absolute().parent.parent
    if (root / "pyproject.toml").is_file():
        earlier = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(root), *([earlier] if earlier else [])])
    return environment
