"""The environment of a child that runs our own modules. Standard library only: the launcher of runs uses it too."""

import os
from pathlib import Path

import dpo_tui


def child_environment() -> dict[str, str]:
    """This process's environment, in which a child finds the same ``dpo_tui``.

    From a source checkout the checkout's place is made absolute and put first: a child may work in another folder, and
    ``python -P`` does not look into the current one.
    """
    environment = dict(os.environ)
    root = Path(dpo_tui.__file__).absolute().parent.parent
    if (root / "pyproject.toml").is_file():
        earlier = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(root), *([earlier] if earlier else [])])
    return environment
