"""Which checkpoint a run has to go on from. Standard library only."""

from pathlib import Path

from dpo_tui.runs.folder import RunFolder

COMPLETE = "complete.json"
"""The file that the worker puts into a ``checkpoint-N`` folder after its last byte; without it, the folder is torn."""


def newest_checkpoint(folder: RunFolder) -> Path | None:
    """The whole checkpoint with the highest step; ``None`` when there is none.

    Whether its files still are what they were is for the worker to check before it goes on from it.
    """
    steps = [
        (int(number), path)
        for path in folder.checkpoints.glob("checkpoint-*")
        if (number := path.name.removeprefix("checkpoint-")).isdigit() and (path / COMPLETE).exists()
    ]
    return max(steps)[1] if steps else None
