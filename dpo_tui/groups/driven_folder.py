"""What a detached driver drives: a group, or an improvement. Standard library only."""

from pathlib import Path
from typing import Protocol


class DrivenFolder(Protocol):
    """A folder with a driver, which holds its lock and writes its state and its events."""

    @property
    def path(self) -> Path:
        """The folder itself."""

    @property
    def id(self) -> str:
        """Its name, of the same form as a run's id."""

    @property
    def plan(self) -> Path:
        """What was asked for, frozen, as JSON."""

    @property
    def lock(self) -> Path:
        """Locked by the driver while it lives."""

    @property
    def state(self) -> Path:
        """What has become of it, as JSON."""

    @property
    def events(self) -> Path:
        """The driver's events, append-only."""

    @property
    def control(self) -> Path:
        """The folder of request files."""
