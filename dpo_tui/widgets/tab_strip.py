"""The names of a screen's views in one row, the open one in brackets."""

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.message import Message

from dpo_tui.views.styled_text import StyledRow
from dpo_tui.widgets.rows_widget import RowsWidget, component_classes

ROLES = ("open", "other")


class TabStrip(RowsWidget):
    """Tabs such as ``[Charts] Samples Events``. The screen opens the views; this shows which one is open.

    Args:
        names: the names of the views, the first one open.
        id: the ID of the widget in the DOM.

    Attributes:
        names: the names of the views.
        open: the name of the open view.
        marks: text shown behind some names.
    """

    DEFAULT_CSS = """
    TabStrip {
        height: 1;
        & > .tabs--open { color: $text-accent; text-style: bold; }
        & > .tabs--other { color: $text-muted; }
    }
    """
    PREFIX = "tabs"
    ROLES = ROLES
    COMPONENT_CLASSES: ClassVar[set[str]] = component_classes(PREFIX, ROLES)

    class Picked(Message):
        """Posted when a name is clicked.

        Attributes:
            name: the view.
        """

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, names: Sequence[str], *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self.names = list(names)
        self.open = self.names[0]
        self.marks: dict[str, str] = {}

    def pick(self, name: str) -> None:
        """Mark a view as the open one."""
        self.open = name
        self.redraw()

    def step(self, by: int) -> str:
        """The name some places after the open one, wrapping around."""
        return self.names[(self.names.index(self.open) + by) % len(self.names)]

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """All names, the open one in brackets."""
        return [[piece for name in self.names for piece in self._piece(name)]]

    def _piece(self, name: str) -> StyledRow:
        label = name + self.marks.get(name, "")
        return [(f"[{label}]" if name == self.open else f" {label} ", "open" if name == self.open else "other")]

    def on_click(self, event: events.Click) -> None:
        """Post `Picked` for the name under the mouse."""
        at = 0
        for name in self.names:
            at += len(name + self.marks.get(name, "")) + 2
            if event.x < at:
                self.post_message(self.Picked(name))
                return
