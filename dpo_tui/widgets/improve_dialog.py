"""The dialog that asks for what an improvement needs: a model, prompts, a judge, and how many rounds."""

from dataclasses import fields
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from dpo_tui.views.improvement_request import ImprovementForm
from dpo_tui.widgets.compact_inputs import LineInput
from dpo_tui.widgets.dialogs import DIALOG_CSS

_LABELS = {
    "model": ("Model", "folder, hub id or run:ID"),
    "prompts": ("Prompts", "a file: one prompt a line, or JSON rows"),
    "judge": ("Judge: a command that scores; left empty, you judge", "python score.py"),
    "rounds": ("Rounds at most", "3"),
}


class ImproveDialog(ModalScreen[ImprovementForm | None]):
    """Four fields; its result is what was typed, or None when cancelled.

    Args:
        form: the texts at first.
    """

    DEFAULT_CSS = (
        DIALOG_CSS.format(name="ImproveDialog") + "ImproveDialog .-label { color: $text-muted; margin-top: 1; }"
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "cancel", id="improve.cancel"),
        Binding("enter", "take", "check it", id="improve.take", priority=True),
    ]

    def __init__(self, form: ImprovementForm) -> None:
        super().__init__()
        self._form = form

    def compose(self) -> ComposeResult:
        """Title, fields, keys."""
        with Vertical():
            yield Static("Improve a model on prompts alone, in rounds", classes="-title")
            for name, (label, example) in _LABELS.items():
                yield Static(label, classes="-label")
                yield LineInput(getattr(self._form, name), placeholder=example, id=name)
            settings = "All other settings are those of New, or the defaults."
            yield Static(settings, classes="-label")
            yield Static(Content("tab next field   enter check it   esc cancel"), classes="-keys")

    def on_mount(self) -> None:
        """Put the cursor into the first field that is empty."""
        empty = [name for name in ("model", "prompts") if not getattr(self._form, name)]
        self.query_one(f"#{(empty or ['judge'])[0]}").focus()

    def action_take(self) -> None:
        """Close with what was typed."""
        names = [item.name for item in fields(ImprovementForm)]
        self.dismiss(ImprovementForm(**{name: self.query_one(f"#{name}", LineInput).value.strip() for name in names}))

    def action_cancel(self) -> None:
        """Close with None."""
        self.dismiss(None)
