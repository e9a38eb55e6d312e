"""Key bindings for a run that is over: chat with it, export it, train on from its model, change its settings."""

import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.message import Message

from dpo_tui.errors import DpoTuiError
from dpo_tui.runs.status_names import OVER
from dpo_tui.text.printable import printable
from dpo_tui.views.export_job import ExportRequest, progress_text, remarks, run_export, serve_lines
from dpo_tui.views.styled_text import StyledRow
from dpo_tui.widgets.dialogs import MessageDialog
from dpo_tui.widgets.export_dialog import ExportDialog
from dpo_tui.widgets.key_hints import key_sign
from dpo_tui.widgets.rows_widget import RowsWidget, component_classes
from dpo_tui.widgets.run_actions import RunActionsScreen

_AFTER_RESULT = (
    ("open_screen('judge')", "judge"),
    ("chat_run", "chat"),
    ("export_run", "export"),
    ("train_on", "train on"),
    ("edit", "change and rerun"),
)
_WITHOUT_RESULT = (("edit", "change and rerun"),)
ROLES = ("key", "word", "busy")


class NextSteps(RowsWidget):
    """One row, shown once a run is over: what comes next, with the keys as the user has mapped them."""

    DEFAULT_CSS = """
    NextSteps {
        height: 1;
        display: none;
        & > .next--key { color: $footer-key-foreground; text-style: bold; }
        & > .next--word { color: $text; }
        & > .next--busy { color: $text-accent; }
    }
    """
    PREFIX = "next"
    ROLES = ROLES
    COMPONENT_CLASSES: ClassVar[set[str]] = component_classes(PREFIX, ROLES)

    about: Mapping[str, Any] = {}
    busy = ""
    """What an export does now; shown in place of the steps."""

    def show(self, about: Mapping[str, Any]) -> None:
        """Show what comes next for a run, as `Feed.about` describes it; nothing while it is not over."""
        self.about = about
        self.display = about.get("status") in OVER and "has_result" in about
        self.redraw()

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """The steps that fit."""
        if self.busy:
            return [[(f"Exporting: {self.busy}"[:width], "busy")]]
        steps: list[tuple[str, str]] = [*(_AFTER_RESULT if self.about.get("has_result") else _WITHOUT_RESULT)]
        if (checkpoint := self.about.get("resumes_from")) is not None:
            asks = "".join(f" with {name} = {value}" for name, value in self.about.get("resumes_with", {}).items())
            words = f"go on from {checkpoint}" if checkpoint else "train from the beginning"
            steps.insert(0, ("resume_run", f"{words}{asks}"))
        # By action: the keys may be mapped to others.
        keys = {active.binding.action: key_sign(active.binding) for active in self.screen.active_bindings.values()}
        row: StyledRow = [("Next:", "word")]
        room = width - len("Next:")
        for action, words in steps:
            if action in keys and (size := len(keys[action]) + len(words) + 3) <= room:
                row += [(f"  {keys[action]}", "key"), (f" {words}", "word")]
                room -= size
        return [row]


class EndedRunScreen(RunActionsScreen):
    """A screen of one run with the keys for what comes after it. It composes a `NextSteps`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "edit", "edit & restart", id="monitor.edit", show=False),
        Binding("A", "chat_run", "chat with the result", id="monitor.chat", show=False),
        Binding("E", "export_run", "export the result", id="monitor.export", show=False),
        Binding("C", "train_on", "train on from this run", id="monitor.train-on", show=False),
    ]

    # The namespace keeps the name of the app's handler, `on_monitor_screen_edit_config`.
    class EditConfig(Message, namespace="monitor_screen"):
        """Posted when the user wants to change the run's settings and start another run with them.

        Attributes:
            config: path of the run's config file.
            changes: settings to change in it at once; the value None removes a setting.
        """

        def __init__(self, config: Path, changes: Mapping[str, Any]) -> None:
            super().__init__()
            self.config = config
            self.changes = changes

    _exporting = False

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enable what needs a result only where the run has one."""
        if action in ("export_run", "train_on", "chat_run"):
            return self.is_mounted and bool(self.query_one(NextSteps).about.get("has_result"))
        return super().check_action(action, parameters)

    def action_edit(self) -> None:
        """Open the run's settings in New."""
        if (run := self.current_run()) is not None:
            self.post_message(self.EditConfig(run[0].config, {}))

    def action_train_on(self) -> None:
        """Open the run's settings in New, with the model that it has trained as the model to train."""
        if (run := self.current_run()) is not None:
            self.post_message(self.EditConfig(run[0].config, {"model_name": f"run:{run[0].id}"}))

    def action_chat_run(self) -> None:
        """Open a conversation with the model that the run has trained; this screen stays behind it."""
        from dpo_tui.widgets.chat_screen import ChatScreen

        if (run := self.current_run()) is not None:
            self.app.push_screen(ChatScreen(run[0], printable(run[1], single_line=True)))

    @work(exclusive=True, group="export", exit_on_error=False)
    async def action_export_run(self) -> None:
        """Ask where to and whether to merge, and export in the background."""
        if (run := self.current_run()) is None:
            return
        if self._exporting:
            self.notify("An export of this run is under way.", markup=False)
            return
        folder, name, _ = run
        proposed = Path.cwd() / f"{''.join(c if c.isalnum() or c in '-_.' else '-' for c in name)}-export"
        request = await self.app.push_screen_wait(ExportDialog(folder, proposed))
        if request is not None:
            self._exporting = True
            self._show_export("loading the libraries")
            # A daemon thread and no worker: the export outlives this screen, and the app does not wait for it when it
            # quits (the child process ends with the app).
            threading.Thread(target=self._export, args=(request, printable(name)), daemon=True).start()

    def _export(self, request: ExportRequest, name: str) -> None:
        app = self.app

        def call(function: Any, *values: Any) -> None:
            with suppress(RuntimeError):  # the app has quit
                app.call_from_thread(function, *values)

        try:
            exported = run_export(
                request,
                lambda message: call(self._show_export, progress_text(message)),
                lambda text: call(app.notify, text),
            )
        except DpoTuiError as error:
            dialog = MessageDialog("The export did not work", error.message, error.hint or "")
        else:
            said = [str(exported["target"]), *remarks(exported, merge=request.merge)]
            text = "\n".join([*said, "", *serve_lines(exported)])
            dialog = MessageDialog(f"{name} is exported", text)
        finally:
            self._exporting = False
            call(self._show_export, "")
        call(app.push_screen, dialog)

    def _show_export(self, text: str) -> None:
        if self.is_attached:
            steps = self.query_one(NextSteps)
            steps.busy = text
            self.draw_when_front(steps.redraw)
