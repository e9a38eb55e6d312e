"""Key bindings that act on a run, for every screen that shows one: stop, checkpoint, resume, rename, delete."""

import asyncio
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType

from dpo_tui.errors import DpoTuiError
from dpo_tui.runs import control_requests, naming, store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.status import status_of
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

    def runs_acted_on(self) -> list[tuple[RunFolder, str, str]]:
        """The runs that stop, resume and delete act on, as `current_run` returns one: that one alone by default."""
        run = self.current_run()
        return [] if run is None else [run]

    def _allowed_runs(self, action: str) -> list[tuple[RunFolder, str, str]]:
        return [run for run in self.runs_acted_on() if run[2] in _ALLOWED_STATUSES[action]]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the actions that the run's status does not allow."""
        if action == "rename_run":
            return self.current_run() is not None
        return bool(self._allowed_runs(action)) if action in _ALLOWED_STATUSES else True

    @work(exclusive=True, group="steer", exit_on_error=False)
    async def action_stop_run(self) -> None:
        """After confirmation, request a stop with a checkpoint; if all are stopping or stalled, a stop at once."""
        runs = self._allowed_runs("stop_run")
        if not runs:
            return
        again = all(status in ("stopping", "stalled") for _, _, status in runs)
        question = f"Stop {_called(runs)} {'at once' if again else ''}".rstrip() + "?"
        detail = (
            "It does not wait for a checkpoint: what came after the last one is lost."
            if again
            else "It saves a checkpoint at its next step; r goes on from there later."
        )
        if await self.app.push_screen_wait(ConfirmDialog(question, detail, dangerous=again)):
            for folder, _, _ in runs:
                # In a thread: cancelling a job waits for the batch system.
                await asyncio.to_thread(control_requests.request_stop, folder, now=again)
            self.notify(f"Asked to stop: {_called(runs)}.", markup=False)

    @work(thread=True, exclusive=True, group="steer", exit_on_error=False)
    def action_checkpoint_run(self) -> None:
        """Request a checkpoint at the next step."""
        if (run := self.current_run()) is not None:
            control_requests.request_checkpoint(run[0])
            self.app.call_from_thread(self.notify, "A checkpoint comes at the next step.", markup=False)

    @work(thread=True, exclusive=True, group="steer", exit_on_error=False)
    def action_resume_run(self) -> None:
        """Resume from the last checkpoint; a job that ran out of main memory asks for more of it."""
        from dpo_tui.runs.launchers.slurm_job import request_after
        from dpo_tui.start.prepare import resume  # imports what reads data and models

        failed: list[DpoTuiError] = []
        for folder, name, _ in self._allowed_runs("resume_run"):
            try:
                asks = request_after(folder, status_of(folder).reason)
                resumed = resume(folder, changes=asks)
            except DpoTuiError as error:  # it must not keep the others from going on
                failed.append(error)
                continue
            where = resumed.checkpoint.name if resumed.checkpoint is not None else "the beginning"
            skipped = "".join(f" {checkpoint} {reason}." for checkpoint, reason in resumed.skipped.items())
            more = "".join(f" with {setting} = {value}" for setting, value in asks.items())
            words = f"{printable(name)} goes on from {where}{more}.{skipped}"
            self.app.call_from_thread(self.notify, words, markup=False)
        if failed:
            raise failed[0]

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
        runs = self._allowed_runs("delete_run")
        if not runs:
            return
        names = "\n".join(str(folder.path) if len(runs) == 1 else name for folder, name, _ in runs[:_NAMED])
        more = f"\nand {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
        detail = f"Metrics, checkpoints and adapters go with it.\n{names}{more}"
        if await self.app.push_screen_wait(ConfirmDialog(f"Delete {_called(runs)}?", detail, dangerous=True)):
            for folder, name, _ in runs:
                self._remove(folder, name)

    # Not in the group "steer", whose next worker would cancel this one: deleting checkpoints may take a while.
    @work(thread=True, group="remove", exit_on_error=False)
    def _remove(self, folder: RunFolder, name: str) -> None:
        store.remove(folder)
        self.app.call_from_thread(self.notify, f"{printable(name)} is deleted.", markup=False)


def _called(runs: list[tuple[RunFolder, str, str]]) -> str:
    """The name of one run, or how many there are."""
    return printable(runs[0][1]) if len(runs) == 1 else f"{len(runs)} runs"


_NAMED = 6
"""Runs that the question before a deletion names."""
_ALLOWED_STATUSES = {
    # One that cannot be read may be live: the request says so if it is not.
    "stop_run": LIVE | {UNKNOWN},
    "checkpoint_run": frozenset({"running"}),
    "resume_run": RESUMABLE,
    "delete_run": OVER | {UNKNOWN},
}
