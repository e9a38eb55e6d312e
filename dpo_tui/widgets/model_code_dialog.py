"""The question whether Python code that a model brings may run: what that means, the files, and their digest."""

from collections.abc import Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from dpo_tui.start.model_checks.own_code import MEANING, UntrustedCodeError
from dpo_tui.text.printable import printable
from dpo_tui.widgets.dialogs import DIALOG_CSS


class ModelCodeDialog(ModalScreen[bool]):
    """Asks whether a model's own code may run; its result is the answer, and only ``y`` is yes.

    Args:
        model: name of the model.
        meaning: what a yes means, in sentences.
        files: SHA-256 of each Python file, by its path in the model's folder.
        digest: of them all, for which the answer holds.
    """

    DEFAULT_CSS = (
        DIALOG_CSS.format(name="ModelCodeDialog")
        + """
    ModelCodeDialog > Vertical { width: 76; }
    ModelCodeDialog VerticalScroll { height: auto; max-height: 6; margin: 1 0; }
    ModelCodeDialog .-muted { color: $text-muted; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes", id="ask.yes"),
        Binding("n,escape,q", "answer(False)", "no", id="ask.no"),
    ]

    def __init__(self, model: str, meaning: str, files: Mapping[str, str], digest: str) -> None:
        super().__init__()
        self._model, self._meaning, self._files, self._digest = model, meaning, files, digest

    @classmethod
    def of(cls, error: UntrustedCodeError) -> "ModelCodeDialog":
        """The question that a refusal leads to."""
        meaning = f"{MEANING} Your answer is kept for exactly this code; when a file changes, it is asked again."
        return cls(error.model, meaning, error.files, error.digest)

    def compose(self) -> ComposeResult:
        """Question, files, meaning, digest, keys; the files scroll where there are many."""
        with Vertical():
            yield Static(Content("Run the Python code that this model brings?"), classes="-title")
            yield Static(Content(printable(self._model, single_line=True)))
            with VerticalScroll():
                for name, digest in self._files.items():
                    yield Static(Content(f"{digest[:12]}…  {printable(name, single_line=True)}"), classes="-muted")
            yield Static(Content(printable(self._meaning)))
            yield Static(Content(f"SHA-256 of all: {self._digest}"), classes="-muted")
            keys = "↑ ↓ files   " if len(self._files) > 1 else ""
            yield Static(Content(f"y run it   n no   {keys}".rstrip()), classes="-keys")

    def action_answer(self, yes: bool) -> None:
        """Close with the answer."""
        self.dismiss(yes)
