"""Environment variables for a child process that runs our own modules. Standard library only, as the launchers are."""

import os
from pathlib import Path

import dpo_tui


def child_environment() -> dict[str, str]:
    """This process's environment for a child that imports the same ``dpo_tui``, with :func:`set_library_defaults`.

    For a source checkout its absolute path comes first in ``PYTHONPATH``: a child may run in another folder, and
    ``python -P`` does not search the current one.
    """
    environment = dict(os.environ)
    set_library_defaults(environment)
    root = Path(dpo_tui.__file__).absolute().parent.parent
    if (root / "pyproject.toml").is_file():
        earlier = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(root), *([earlier] if earlier else [])])
    return environment


def set_library_defaults(environment: dict[str, str]) -> None:
    """Set what libraries of the training stack read from the environment, unless the user has said otherwise.

    - torch's CPU threads sleep while they wait for each other. They spin by default; on cores shared with anything
      else they spin for the time that the other thread would need. Sleeping is up to 10 times as fast on two busy
      cores; on idle ones it costs small models time, and no count of spins is good on both
      (benchmarks/results/overhead.md).
    - TRL's trainers send nothing. Since 1.16 they tell the Hub the name of the GPU, the number of processes, the
      trainer and the kind of model and data of each run (``BaseTrainer._send_telemetry``).
    """
    environment.setdefault("OMP_WAIT_POLICY", "passive")
    environment.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
