"""The folder of a group, ``$DPO_TUI_HOME/groups/<id>/``: the paths of its files. Standard library only.

The driver is the one writer of all but ``plan.json`` and ``members/``, which whoever makes the group writes once, and
``control/``, which takes requests. The members are ordinary runs, with folders of their own.
"""

from dataclasses import dataclass
from pathlib import Path

CONTRACT_VERSION = 1
"""The version of the contract that this package writes, and the newest that it reads."""


@dataclass(frozen=True)
class GroupFolder:
    """One group's folder; the properties name its files, which may not exist yet.

    Args:
        path: the folder itself.
    """

    path: Path

    @property
    def id(self) -> str:
        """The group's id, of the same form as a run's."""
        return self.path.name

    @property
    def plan(self) -> Path:
        """What was asked for, frozen: see `dpo_tui.groups.group_plan`."""
        return self.path / "plan.json"

    def member_config(self, number: int) -> Path:
        """The resolved config of a member, counted from 1."""
        return self.path / "members" / f"{number}.toml"

    @property
    def state(self) -> Path:
        """What has become of it, written by the driver: see `dpo_tui.groups.group_state`."""
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
        """Request files: ``stop``, ``stop-now``, ``pause``."""
        return self.path / "control"
