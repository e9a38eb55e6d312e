"""The newest whole ``trainer_state.json`` of a Trainer's output folder, and newer ones that cannot be read.

The Trainer writes the file with each checkpoint, and not atomically: a full disk or a kill leaves a torn one.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STATE = "trainer_state.json"
_SAME_TIME = 60
"""Seconds within which the number of the checkpoint decides which is newest: a copied folder keeps no times."""


@dataclass(frozen=True, slots=True)
class _Version:
    """One state file as it was found."""

    path: Path
    modified_ns: int
    size: int

    @property
    def age_order(self) -> tuple[int, float]:
        number = self.path.parent.name.rpartition("checkpoint-")[2]
        # The one beside the checkpoints is written when training has ended.
        return self.modified_ns // (_SAME_TIME * 10**9), float(number) if number.isdecimal() else float("inf")


class TrainerStates:
    """The state files of an output folder, read again when one of them changes.

    Args:
        folder: the output folder, or a checkpoint in it.

    Attributes:
        shown: the newest file that is whole; None when there is none.
        faults: (name, what is wrong) of each newer file, the newest first.
    """

    def __init__(self, folder: Path) -> None:
        self.shown: Path | None = None
        self.faults: tuple[tuple[str, str], ...] = ()
        self._folder = folder
        self._versions: list[_Version] = []

    def name_of(self, path: Path) -> str:
        """The name of a state file as messages have it: relative to the folder."""
        return str(path.relative_to(self._folder))

    def poll(self) -> dict[str, Any] | None:
        """The newest whole state, when a state file has changed since the last call; None otherwise, or without one."""
        versions = sorted(_versions(self._folder), key=lambda version: version.age_order, reverse=True)
        if versions == self._versions:
            return None
        self._versions = versions
        faults = []
        self.shown, found = None, None
        for version in versions:
            found, fault = _read(version.path)
            if found is not None:
                self.shown = version.path
                break
            faults.append((self.name_of(version.path), fault))
        self.faults = tuple(faults)
        return found


def state_files(folder: Path) -> list[Path]:
    """The state files of an output folder, in no order."""
    return [version.path for version in _versions(folder)]


def _versions(folder: Path) -> list[_Version]:
    found = []
    for path in (folder / STATE, *folder.glob(f"checkpoint-*/{STATE}")):
        try:
            status = os.stat(path)
        except OSError:
            continue
        if path.is_file():
            found.append(_Version(path, status.st_mtime_ns, status.st_size))
    return found


def _read(path: Path) -> tuple[dict[str, Any] | None, str]:
    """The state in a file; else None and what is wrong with the file, as the end of a sentence."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return None, f"cannot be read: {error.strerror or error}"
    try:
        state = json.loads(data)
    except (ValueError, RecursionError):
        what = f"its JSON breaks off or is damaged ({len(data):,} bytes)" if data.strip() else "it is empty"
        return None, f"is torn: {what}"
    if not isinstance(state, dict):
        return None, "is no trainer state: it holds no JSON object"
    return state, ""
