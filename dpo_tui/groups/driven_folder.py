"""What a detached driver drives, a group or an improvement: the files that both have. Standard library only."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DrivenFolder:
    """A folder with a driver, which holds its lock and writes its state and its events; the files may not exist yet.

    Args:
        path: the folder itself.
    """

    path: Path

    @property
    def id(self) -> str:
        """Its name, of the same form as a run's id."""
        return self.path.name

    @property
    def plan(self) -> Path:
        """What was asked for, frozen, as JSON."""
        return self.path / "plan.json"

    @property
    def state(self) -> Path:
        """What has become of it, written by the driver, as JSON."""
        return self.path / "state.json"

    @property
    def events(self) -> Path:
        """The driver's events, append-only."""
        return self.path / "events.jsonl"

    @property
    def driver_output(self) -> Path:
        """Standard output and error of the driver; empty unless something went wrong."""
        return self.path / "driver.log"

    @property
    def lock(self) -> Path:
        """Locked by the driver while it lives. Only `dpo_tui.runs.run_lock` may open it."""
        return self.path / "driver.lock"

    @property
    def control(self) -> Path:
        """The folder of request files, named by `dpo_tui.groups.group_requests`."""
        return self.path / "control"
