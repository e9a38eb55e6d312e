"""The folder of a group, ``$DPO_TUI_HOME/groups/<id>/``: the paths of its files. Standard library only.

The driver is the one writer of all but ``plan.json`` and ``members/``, which whoever makes the group writes once, and
``control/``, which takes requests. The members are ordinary runs, with folders of their own.
"""

from pathlib import Path

from dpo_tui.groups.driven_folder import DrivenFolder

CONTRACT_VERSION = 1
"""The version of the contract that this package writes, and the newest that it reads."""


class GroupFolder(DrivenFolder):
    """One group's folder: its plan is that of `dpo_tui.groups.group_plan`, its state that of `group_state`."""

    def member_config(self, number: int) -> Path:
        """The resolved config of a member, counted from 1."""
        return self.path / "members" / f"{number}.toml"
