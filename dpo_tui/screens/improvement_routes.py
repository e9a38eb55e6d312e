"""The part of the app that opens the screens of improvements and starts one from prompts alone."""

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from textual import work
from textual.app import SystemCommand
from textual.screen import Screen

from dpo_tui.errors import DpoTuiError
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.themes.themed_app import ThemedApp
from dpo_tui.views.run_feed import RunFeed
from dpo_tui.widgets.dialogs import ConfirmDialog, MessageDialog
from dpo_tui.widgets.group_actions import GroupActionsScreen

if TYPE_CHECKING:
    from dpo_tui.screens.improvement_screen import ImprovementScreen
    from dpo_tui.screens.new_screen import NewScreen
    from dpo_tui.screens.steps.data_step import DataStep


class ImprovementRoutes(ThemedApp):
    """Base of the app: an improvement, its verdicts and its runs are modes that lead back to one another.

    Messages that it handles: `GroupActionsScreen.OpenImprovement`, `ImprovementScreen.OpenRuns`,
    `ImprovementScreen.GiveVerdicts` and `DataStep.PromptsOnly`.
    """

    _detail_mode: str
    _new_screen: "NewScreen | None"
    _improvement_mode = ""
    """Mode of the open improvement, of which there is one at most; empty when there is none."""
    _verdicts_mode = ""
    """Likewise of its verdicts."""
    _detail_of_improvement = ""
    """The monitor or comparison that was opened from the improvement, by its mode."""

    def _open_mode(self, make_screen: Callable[[], Screen[None]]) -> str:
        raise NotImplementedError

    def _open_detail(self, make_screen: Callable[[], Screen[None]]) -> None:
        raise NotImplementedError

    def _make_monitor(self, feed: RunFeed) -> Screen[None]:
        raise NotImplementedError

    def mode_before(self) -> str:
        """The improvement's mode where the present screen was opened from it; empty for other screens."""
        from_improvement = self.current_mode in (self._verdicts_mode, self._detail_of_improvement)
        return self._improvement_mode if from_improvement else ""

    def open_improvement(self, folder: ImprovementFolder) -> None:
        """Open the screen of an improvement, and remove the one opened before it."""
        from dpo_tui.screens.improvement_screen import ImprovementScreen

        # The new mode is shown before the old one is removed: Textual cannot remove the mode that is shown.
        old, self._improvement_mode = self._improvement_mode, self._open_mode(lambda: ImprovementScreen(folder))
        self._detail_of_improvement = ""
        if old:
            self.remove_mode(old)

    def on_group_actions_screen_open_improvement(self, message: GroupActionsScreen.OpenImprovement) -> None:
        """Open an improvement."""
        self.open_improvement(message.folder)

    def on_improvement_screen_give_verdicts(self, message: "ImprovementScreen.GiveVerdicts") -> None:
        """Open the verdicts of an improvement, and remove those opened before."""
        from dpo_tui.screens.verdicts_screen import VerdictsScreen

        old, self._verdicts_mode = self._verdicts_mode, self._open_mode(lambda: VerdictsScreen(message.folder))
        if old:
            self.remove_mode(old)

    def on_improvement_screen_open_runs(self, message: "ImprovementScreen.OpenRuns") -> None:
        """Open the monitor of a round's run, or compare its runs; leaving it leads back."""
        from dpo_tui.screens.compare_screen import CompareScreen

        folders = message.folders
        if len(folders) == 1:
            self._open_detail(lambda: self._make_monitor(RunFeed(folders[0])))
        else:
            self._open_detail(lambda: CompareScreen(folders, message.group))
        self._detail_of_improvement = self._detail_mode

    def on_data_step_prompts_only(self, message: "DataStep.PromptsOnly") -> None:
        """Ask for what an improvement needs."""
        self.action_improve()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The command that starts an improvement, then Textual's own."""
        yield SystemCommand("Improve a model on prompts alone", "sample, judge and train in rounds", self.action_improve)
        yield from super().get_system_commands(screen)

    @work(exclusive=True, group="improve", exit_on_error=False)
    async def action_improve(self) -> None:
        """Ask for model, prompts and judge until they can work, say what would happen, and start it."""
        from dpo_tui.improve.improvement_control import start_improvement
        from dpo_tui.improve.improvement_store import create
        from dpo_tui.views.improvement_request import ImprovementForm, prepared_from, start_text
        from dpo_tui.views.run_plan import RunPlan
        from dpo_tui.widgets.improve_dialog import ImproveDialog

        plan = self._new_screen.plan if self._new_screen is not None else RunPlan()
        form = ImprovementForm(plan.config.model_name if plan.has_model else "")
        while (typed := await self.push_screen_wait(ImproveDialog(form))) is not None:
            form = typed
            self.notify("Checking model, prompts and judge …", markup=False)
            try:
                ready = await asyncio.to_thread(prepared_from, form, plan)
                if not await self.push_screen_wait(ConfirmDialog(f"Start {ready.plan.name}?", start_text(ready))):
                    continue
                folder = await asyncio.to_thread(create, ready.plan, ready.config, ready.prompts)
                await asyncio.to_thread(start_improvement, folder)
            except DpoTuiError as error:
                await self.push_screen_wait(MessageDialog("That did not work", error.message, error.hint or ""))
                continue
            self.open_improvement(folder)
            return
