"""Deleting a group with its runs, from the app or the command line. Standard library only."""

from dataclasses import dataclass

from dpo_tui.errors import RunError
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_status import MemberStatus, group_status
from dpo_tui.groups.group_store import remove_group
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.status_names import UNKNOWN


@dataclass(frozen=True)
class GroupRemoval:
    """What goes with a group, and what stays.

    Args:
        folder: the group.
        runs: that are deleted.
        doubtful: runs that stay, since it cannot be told that they are the group's.
        unreadable: why none of its runs can be known, and all of them stay; empty where they are.
    """

    folder: GroupFolder
    runs: tuple[RunFolder, ...] = ()
    doubtful: tuple[RunFolder, ...] = ()
    unreadable: str = ""

    def remaining(self) -> str:
        """What stays and why, as a sentence; empty where nothing does."""
        if self.unreadable:
            return f"Its runs stay, since it could not be read: {self.unreadable}"
        if not self.doubtful:
            return ""
        names = ", ".join(run.id for run in self.doubtful)
        return f"Kept, since their states cannot be read and their configs are not those they were made with: {names}"

    def carry_out(self) -> None:
        """Delete.

        Raises:
            RunError: a run, or the group, cannot be deleted; the group's folder is the last to go.
        """
        # The runs first: without the group's folder nothing would say which they were.
        errors: list[RunError] = []
        for run in self.runs:
            try:
                store.remove(run)
            except RunError as error:
                errors.append(error)
        if errors:
            more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            raise RunError(f"group {self.folder.id} stays: {errors[0].message}{more}", hint=errors[0].hint)
        remove_group(self.folder)


def removal_of(folder: GroupFolder) -> GroupRemoval:
    """Determine what is deleted with a group.

    Raises:
        RunError: it, or a run of it, lives.
    """
    try:
        status = group_status(folder)
    except RunError as error:
        return GroupRemoval(folder, unreadable=error.message)
    if status.live or any(one.live for one in status.members):
        raise RunError(f"group {folder.id} is still running", hint=f"Stop it first: dpo-tui stop {folder.id}")
    there = [(one, one.run) for one in status.members if one.run is not None and one.run.path.is_dir()]
    return GroupRemoval(
        folder,
        tuple(run for one, run in there if _is_surely_its_own(folder, one, run)),
        tuple(run for one, run in there if not _is_surely_its_own(folder, one, run)),
    )


def _is_surely_its_own(folder: GroupFolder, one: MemberStatus, run: RunFolder) -> bool:
    """Whether a member's run is the group's.

    A run says itself whose it is. One whose state cannot be read is known by its config, which was written from the
    member's.
    """
    if one.status != UNKNOWN:
        return True
    try:
        return run.config.read_bytes() == folder.member_config(one.member.number).read_bytes()
    except OSError:
        return False
