"""Environment variables for a child process that runs our own modules. Standard library only, as the launchers are."""

import os
from pathlib import Path

import dpo_tui


def child_environment() -> dict[str, str]:
    """This process's environment for a child that imports the same ``dpo_tui``, and whose torch threads do not spin.

    For a source checkout its absolute path comes first in ``PYTHONPATH``: a child may run in another folder, and
    ``python -P`` does not search the current one.
    """
    environment = dict(os.environ)
    let_threads_sleep(environment)
    root = Path(dpo_tui.__file__).absolute().parent.parent
    if (root / "pyproject.toml").is_file():
        earlier = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(root), *([earlier] if earlier else [])])
    return environment


def let_threads_sleep(environment: dict[str, str]) -> None:
    """Make torch's CPU threads sleep while they wait for each other, unless the user has said otherwise.

    They spin by default; on cores shared with anything else they spin for the time that the other thread would need.
    Sleeping instead was 8 to 10 times as fast on two busy cores.
    """
    environment.setdefault("OMP_WAIT_POLICY", "passive")
