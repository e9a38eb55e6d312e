"""Stop, resume and delete an improvement from a screen: the questions before, the notices after."""

import asyncio

from textual import work

from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.text.printable import printable
from dpo_tui.widgets.dialogs import ConfirmDialog
from dpo_tui.widgets.full_screen import FullScreen


class ImprovementActionsScreen(FullScreen):
    """A screen from which an improvement is steered; which keys do it is its own matter."""

    @work(exclusive=True, group="steer", exit_on_error=False)
    async def stop_improvement(self, folder: ImprovementFolder, name: str, *, again: bool) -> None:
        """After confirmation, ask an improvement to stop.

        Args:
            folder: the improvement.
            name: what it is called.
            again: whether it was asked before: a training of it then ends at once.
        """
        question = f"Stop the improvement {printable(name)}{' at once' if again else ''}?"
        detail = (
            "A training of it does not wait for a checkpoint: what came after the last one is lost."
            if again
            else "All that was asked for is kept, and a training saves a checkpoint. r goes on from there later."
        )
        if await self.app.push_screen_wait(ConfirmDialog(question, detail, dangerous=again)):
            from dpo_tui.improve import improvement_control  # none of it is needed for the first paint

            await asyncio.to_thread(improvement_control.stop_improvement, folder, now=again)
            self.notify(f"Asked to stop: {printable(name)}.", markup=False)

    @work(thread=True, exclusive=True, group="steer", exit_on_error=False)
    def resume_improvement(self, folder: ImprovementFolder, name: str) -> None:
        """Have an improvement go on where it was."""
        from dpo_tui.improve import improvement_control

        improvement_control.resume_improvement(folder)
        self.app.call_from_thread(self.notify, f"{printable(name)} goes on.", markup=False)

    @work(exclusive=True, group="steer", exit_on_error=False)
    async def delete_improvement(self, folder: ImprovementFolder, name: str, runs: int) -> None:
        """After confirmation, delete an improvement with the runs of its rounds.

        Args:
            folder: the improvement.
            name: what it is called.
            runs: how many runs it has.
        """
        question = f"Delete the improvement {printable(name)} and its {runs} runs?"
        detail = "Its report, answers and verdicts, and all checkpoints and adapters of its rounds go with it."
        if await self.app.push_screen_wait(ConfirmDialog(question, detail, dangerous=True)):
            self._remove_improvement(folder, name)

    # Not in the group "steer", whose next worker would cancel this one: deleting checkpoints may take a while.
    @work(thread=True, group="remove", exit_on_error=False)
    def _remove_improvement(self, folder: ImprovementFolder, name: str) -> None:
        from dpo_tui.improve.remove_improvement import remove_improvement_with_runs

        remove_improvement_with_runs(folder)
        self.app.call_from_thread(self.notify, f"{printable(name)} is deleted.", markup=False)
