"""`python -m dpo_tui.runs.launchers.node_probe RUN_FOLDER TOKEN`: what one node of a job has, as a line of JSON.

The first node writes a token into the run's folder and has every node look for it, before anything trains: a node that
has another folder under that name would train on, and nobody would see its reports. Standard library only.
"""

import json
import os
import sys
import time
from pathlib import Path

from dpo_tui.runs.process import host_name

PROBE = "node-probe"
"""File in the run's folder while nodes look for it."""
NODE_VARIABLE = "SLURMD_NODENAME"
_PATIENCE = 15.0
"""Seconds in which a file of another node becomes visible: NFS keeps for some that there was none."""
_POLL = 0.2


def main(folder: str, token: str) -> int:
    """Print what this node is and sees."""
    answer = {"node": node_name(), "sees_folder": _sees(Path(folder) / PROBE, token), "gpus": _gpus()}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def node_name() -> str:
    """This node as Slurm names it, else this machine's name."""
    return os.environ.get(NODE_VARIABLE) or host_name()


def _sees(probe: Path, token: str) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            if probe.read_text(encoding="utf-8") == token:
                return True
        except (OSError, UnicodeError):
            pass
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL)


def _gpus() -> int:
    """How many GPUs Slurm has given the job here."""
    return len([one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one.strip()])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
