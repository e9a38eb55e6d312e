"""The keys of `RunActionsScreen` where the cursor is on a group or an improvement: they act on all of it."""

import asyncio
from typing import Any

from textual import work
from textual.message import Message
from textual.worker import Worker

from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.runs.status_names import LIVE, OVER, RESUMABLE, UNKNOWN
from dpo_tui.text.printable import printable
from dpo_tui.views.group_row import RunGroup
from dpo_tui.widgets.dialogs import ConfirmDialog
from dpo_tui.widgets.improvement_actions import ImprovementActionsScreen
from dpo_tui.widgets.run_actions import RunActionsScreen

_ALLOWED = {
    "stop_run": LIVE,
    "resume_run": RESUMABLE,
    "delete_run": OVER | {UNKNOWN},
    "checkpoint_run": frozenset[str](),
    "rename_run": frozenset[str](),
}
"""Statuses of a group in which a key does something."""


class GroupActionsScreen(RunActionsScreen, ImprovementActionsScreen):
    """A screen with a current run, group or improvement. A chain has no folder: the keys act on its runs."""

    class OpenImprovement(Message):
        """Posted when the user opens an improvement.

        Attributes:
            folder: the improvement.
        """

        def __init__(self, folder: ImprovementFolder) -> None:
            super().__init__()
            self.folder = folder

    def current_group(self) -> RunGroup | None:
        """The group that the keys act on; None where they act on runs."""
        raise NotImplementedError

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the actions that the group's status does not allow."""
        group = self.current_group()
        if group is None or group.folder is None or action not in _ALLOWED:
            return super().check_action(action, parameters)
        return group.status in _ALLOWED[action]

    def action_stop_run(self, *arguments: Any, **options: Any) -> Worker[None]:
        """Stop the group or improvement, or the runs."""
        group = self._group_with_folder()
        if group is not None and isinstance(group.folder, ImprovementFolder):
            return self.stop_improvement(group.folder, group.name, again=group.status == "stopping")
        return super().action_stop_run(*arguments, **options) if group is None else self._stop_group(group)

    def action_resume_run(self, *arguments: Any, **options: Any) -> Worker[None]:
        """Resume the group or improvement, or the runs."""
        group = self._group_with_folder()
        if group is not None and isinstance(group.folder, ImprovementFolder):
            return self.resume_improvement(group.folder, group.name)
        return super().action_resume_run(*arguments, **options) if group is None else self._resume_group(group)

    def action_delete_run(self, *arguments: Any, **options: Any) -> Worker[None]:
        """Delete the group or improvement with its runs, or the runs."""
        group = self._group_with_folder()
        if group is not None and isinstance(group.folder, ImprovementFolder):
            return self.delete_improvement(group.folder, group.name, len(group.runs))
        return super().action_delete_run(*arguments, **options) if group is None else self._delete_group(group)

    def _group_with_folder(self) -> RunGroup | None:
        group = self.current_group()
        return group if group is not None and group.folder is not None else None

    @work(exclusive=True, group="steer", exit_on_error=False)
    async def _stop_group(self, group: RunGroup) -> None:
        again = group.status == "stopping"
        question = f"Stop the {group.kind} {printable(group.name)}{' at once' if again else ''}?"
        detail = (
            "Its runs do not wait for a checkpoint: what came after the last one is lost."
            if again
            else "No other run starts; those that run save a checkpoint. r goes on from there later."
        )
        agreed = await self.app.push_screen_wait(ConfirmDialog(question, detail, dangerous=again))
        if agreed and isinstance(group.folder, GroupFolder):
            from dpo_tui.groups import group_control  # none of it is needed for the first paint

            await asyncio.to_thread(group_control.stop_group, group.folder, now=again)
            self.notify(f"Asked to stop: {printable(group.name)}.", markup=False)

    @work(thread=True, exclusive=True, group="steer", exit_on_error=False)
    def _resume_group(self, group: RunGroup) -> None:
        from dpo_tui.groups import group_control

        if isinstance(group.folder, GroupFolder):
            group_control.resume_group(group.folder)
            self.app.call_from_thread(self.notify, f"{printable(group.name)} goes on.", markup=False)

    @work(exclusive=True, group="steer", exit_on_error=False)
    async def _delete_group(self, group: RunGroup) -> None:
        question = f"Delete the {group.kind} {printable(group.name)} and its {len(group.runs)} runs?"
        detail = "Metrics, checkpoints and adapters of all its runs go with it."
        if await self.app.push_screen_wait(ConfirmDialog(question, detail, dangerous=True)):
            self._remove_group(group)

    # Not in the group "steer", whose next worker would cancel this one: deleting checkpoints may take a while.
    @work(thread=True, group="remove", exit_on_error=False)
    def _remove_group(self, group: RunGroup) -> None:
        from dpo_tui.groups.group_removal import removal_of

        if not isinstance(group.folder, GroupFolder):
            return
        removal = removal_of(group.folder)
        removal.carry_out()
        text = f"{group.name} is deleted. {removal.remaining()}".rstrip()
        self.app.call_from_thread(self.notify, printable(text), markup=False)
