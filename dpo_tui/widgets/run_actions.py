"""Key bindings that act on a run, for every screen that shows one: stop, checkpoint, resume, rename, delete."""

import asyncio
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType

from dpo_tui.runs import control_requests, naming, store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.status_names import LIVE, OVER, RESUMABLE, UNKNOWN
from dpo_tui.text.printable import printable
from dpo_tui.widgets.dialogs import ConfirmDialog, InputDialog
from dpo_tui.widgets.full_screen import FullScreen


class RunActionsScreen(FullScreen):
    """A screen with a current run, which the keys act on."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s,x", "stop_run", "stop", id="run.stop", key_display="s"),
        Binding("c", "checkpoint_run", "checkpoint", id="run.checkpoint"),
        Binding("r", "resume_run", "resume", id="run.resume"),
        Binding("R", "rename_run", "rename", id="run.rename", show=False),
    ]

    def current_run(self) -> tuple[RunFolder, str, str] | None:
        """(folder, name, status) of the run that the keys act on; None when there is none."""
        raise NotImplementedError

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the actions that the run's status does not allow."""
        if action == "rename_run":
            return self.current_run() is not None
        allowed = _ALLOWED_STATUSES.get(action)
        if allowed is None:
            return True
        run = self.current_run()
        return run is not None and run[2] in allowed

    @work(exclusive=True, group="steer", exit_on_error=False)
    async def action_stop_run(self) -> None:
        """After confirmation, request a stop with a checkpoint; if the run is stopping or stalled, a stop at once."""
        run = self.current_run()
        if run is None:
            return
        folder, name, status = run
        again = status in ("stopping", "stalled")
        question = f"Stop {name} {'at once' if again else ''}".rstrip() + "?"
        detail = (
            "It does not wait for a checkpoint: what came after the last one is lost."
            if again
            else "It saves a checkpoint at its next step; r goes on from there later."
        )
        if await self.app.push_screen_wait(ConfirmDialog(question, detail, dangerous=again)):
            # In a thread: cancelling a job waits for the batch system.
            await asyncio.to_thread(control_requests.request_stop, folder, now=again)
            self.notify(f"{printable(name)} was asked to stop.", markup=False)

    @work(thread=True, exclusive=True, group="steer", exit_on_error=False)
    def action_checkpoint_run(self) -> None:
        """Request a checkpoint at the next step."""
        if (run := self.current_run()) is not None:
            control_requests.request_checkpoint(run[0])
            self.app.call_from_thread(self.notify, "A checkpoint comes at the next step.", markup=False)

    @work(thread=True, exclusive=True, group="steer", exit_on_error=False)
    def action_resume_run(self) -> None:
        """Resume the run from its last checkpoint."""
        if (run := self.current_run()) is not None:
            from dpo_tui.start.prepare import resume  # imports what reads data and models

            resumed = resume(run[0])
            where = resumed.checkpoint.name if resumed.checkpoint is not None else "the beginning"
            self.app.call_from_thread(self.notify, f"{printable(run[1])} goes on from {where}.", markup=False)

    @work(exclusive=True, group="steer", exit_on_error=False)
    async def action_rename_run(self) -> None:
        """Ask for another name; a running run is not affected."""
        if (run := self.current_run()) is None:
            return
        folder, name, _ = run
        new_name = await self.app.push_screen_wait(InputDialog("Call this run", name))
        if new_name and new_name != name:
            saved_name = naming.rename(folder, new_name)
            self.notify(f"{printable(name)} is called {printable(saved_name)} from now on.", markup=False)

    @work(exclusive=True, group="steer", exit_on_error=False)
    async def action_delete_run(self) -> None:
        """After confirmation, delete the run's folder."""
        run = self.current_run()
        if run is None:
            return
        question = f"Delete {run[1]}?"
        detail = f"Its metrics, checkpoints and adapter go with it.\n{run[0].path}"
        if await self.app.push_screen_wait(ConfirmDialog(question, detail, dangerous=True)):
            self._remove(run[0], run[1])

    # Not in the group "steer", whose next worker would cancel this one: deleting checkpoints may take a while.
    @work(thread=True, group="remove", exit_on_error=False)
    def _remove(self, folder: RunFolder, name: str) -> None:
        store.remove(folder)
        self.app.call_from_thread(self.notify, f"{printable(name)} is deleted.", markup=False)


_ALLOWED_STATUSES = {
    "stop_run": LIVE,
    "checkpoint_run": frozenset({"running"}),
    "resume_run": RESUMABLE,
    "delete_run": OVER | {UNKNOWN},
}
