"""A form of settings, one a row under the heading of its section; advanced settings are folded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from dpo_tui.text.printable import printable
from dpo_tui.views.styled_text import StyledRow
from dpo_tui.widgets.rows_widget import RowsWidget, component_classes

ROLES = ("section", "title", "value", "changed", "note", "bad", "cursor", "fold")


@dataclass(frozen=True, slots=True)
class FormRow:
    """One setting.

    Args:
        name: its name in the config.
        section: its section; a heading is shown where it differs from the row before.
        title: its title, two or three words.
        value: its value as text.
        unit: the unit shown after the value.
        changed: whether the user set it.
        problem: why its value is not valid; empty when it is.
        advanced: whether it is hidden until the form is unfolded.
        options: its possible values where they are few; editing goes to the next one then.
    """

    name: str
    section: str
    title: str
    value: str
    unit: str = ""
    changed: bool = False
    problem: str = ""
    advanced: bool = False
    options: tuple[str, ...] = ()


class SchemaForm(RowsWidget, can_focus=True):
    """A list of settings with a cursor. It changes nothing itself: it posts what the user wants to change.

    Args:
        id: the ID of the widget in the DOM.

    Attributes:
        form_rows: all settings.
        unfolded: whether advanced settings are shown.
    """

    DEFAULT_CSS = """
    SchemaForm {
        height: 1fr;
        & > .form--section { color: $text-muted; text-style: bold; }
        & > .form--title { color: $text; }
        & > .form--value { color: $text; }
        & > .form--changed { color: $text-accent; text-style: bold; }
        & > .form--note { color: $text-muted; }
        & > .form--bad { color: $text-error; }
        & > .form--fold { color: $text-muted; }
        & > .form--cursor {
            color: $block-cursor-foreground;
            background: $block-cursor-background;
            text-style: $block-cursor-text-style;
        }
    }
    """
    PREFIX = "form"
    ROLES = ROLES
    COMPONENT_CLASSES: ClassVar[set[str]] = component_classes(PREFIX, ROLES)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "edit", "change", id="form.edit"),
        Binding("up,k", "move(-1)", "up", id="form.up", show=False),
        Binding("down,j", "move(1)", "down", id="form.down", show=False),
        Binding("pageup", "move(-10)", "page up", id="form.page-up", show=False),
        Binding("pagedown", "move(10)", "page down", id="form.page-down", show=False),
        Binding("left,h", "cycle(-1)", "value before", id="form.cycle-back", show=False),
        Binding("right,l", "cycle(1)", "next value", id="form.cycle", show=False),
        Binding("a", "fold", "advanced", id="form.fold"),
        Binding("delete,backspace", "clear", "as it was", id="form.clear"),
    ]
    HELP = "↑/↓ choose a setting · enter changes it · ←/→ cycle choices · del takes your value back · a shows all"

    class Picked(Message):
        """Posted when the cursor moves to another setting.

        Attributes:
            name: the setting.
        """

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    class EditRequested(Message):
        """Posted when the user wants to type the value of a setting.

        Attributes:
            row: the setting.
        """

        def __init__(self, row: FormRow) -> None:
            super().__init__()
            self.row = row

    class Changed(Message):
        """Posted when the user chose another value.

        Attributes:
            name: the setting.
            value: the value as text; empty to remove the user's value.
        """

        def __init__(self, name: str, value: str) -> None:
            super().__init__()
            self.name = name
            self.value = value

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self.form_rows: tuple[FormRow, ...] = ()
        self.unfolded = False
        self._cursor = ""
        self._top = 0

    def show(self, rows: Sequence[FormRow], start: str = "") -> None:
        """Replace the settings; the cursor stays on its setting.

        Args:
            rows: all settings.
            start: where the cursor begins, and goes when its setting is gone; the first setting when left out.
        """
        self.form_rows = tuple(rows)
        shown = [row.name for row in self._visible]
        if self._cursor not in shown and shown:
            self._cursor = start if start in shown else shown[0]
        self.redraw()

    @property
    def current(self) -> FormRow | None:
        """The setting under the cursor."""
        return next((row for row in self._visible if row.name == self._cursor), None)

    @property
    def _visible(self) -> list[FormRow]:
        return [row for row in self.form_rows if self.unfolded or not row.advanced or row.changed or row.problem]

    def go_to(self, name: str) -> None:
        """Move the cursor to a setting; does nothing when it is hidden."""
        if name in {row.name for row in self._visible}:
            self._cursor = name
            self.post_message(self.Picked(name))
            self.redraw()

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        rows = self._visible
        if not rows:
            return
        at = next((index for index, row in enumerate(rows) if row.name == self._cursor), 0)
        self._cursor = rows[min(max(at + by, 0), len(rows) - 1)].name
        self.post_message(self.Picked(self._cursor))
        self.redraw()

    def action_edit(self) -> None:
        """Go to the next option of the setting, or post `EditRequested` where it has none."""
        row = self.current
        if row is not None and row.options:
            self.action_cycle(1)
        elif row is not None:
            self.post_message(self.EditRequested(row))

    def action_cycle(self, by: int) -> None:
        """Post `Changed` with the next option of the setting, or one before."""
        row = self.current
        if row is None or not row.options:
            return
        at = row.options.index(row.value) if row.value in row.options else -by
        self.post_message(self.Changed(row.name, row.options[(at + by) % len(row.options)]))

    def action_clear(self) -> None:
        """Post `Changed` to remove the user's value."""
        if self.current is not None:
            self.post_message(self.Changed(self.current.name, ""))

    def action_fold(self) -> None:
        """Show or hide the advanced settings."""
        self.unfolded = not self.unfolded
        self.show(self.form_rows)

    def on_focus(self) -> None:
        """Show the cursor."""
        self.restyle()

    def on_blur(self) -> None:
        """Draw the cursor without focus."""
        self.restyle()

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the row clicked."""
        lines = self._lines()
        at = self._top + event.y
        if at < len(lines) and isinstance(line := lines[at], FormRow):
            self._cursor = line.name
            self.post_message(self.Picked(self._cursor))
            self.redraw()

    def _lines(self) -> list[FormRow | str]:
        """Settings and headings in order, and a last line that counts the hidden settings."""
        lines: list[FormRow | str] = []
        section = ""
        for row in self._visible:
            if row.section != section:
                section = row.section
                lines.append(section)
            lines.append(row)
        hidden = len(self.form_rows) - len(self._visible)
        if hidden:
            lines.append(f"+ {hidden} advanced settings (a)")
        return lines

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """The headings and settings in view, the one under the cursor among them."""
        lines = self._lines()
        at = next((i for i, line in enumerate(lines) if isinstance(line, FormRow) and line.name == self._cursor), 0)
        self._top = min(max(self._top, at - height + 2), max(at - 1, 0), max(len(lines) - height, 0))
        self._top = max(self._top, 0)
        return [self._row(line, width) for line in lines[self._top : self._top + height]]

    def _row(self, line: FormRow | str, width: int) -> StyledRow:
        if isinstance(line, str):
            return [(line[:width], "fold" if line.startswith("+") else "section")]
        here = line.name == self._cursor
        unit = f" {line.unit}" if line.unit else ""
        room = max(width - 4 - len(unit), 8)
        title = line.title[: room - 2]
        value = printable(line.value or "—", single_line=True)
        if cell_len(value) > room - len(title) - 2:
            value = "…" + value[-(room - len(title) - 3) :]  # of a path the end says more
        gap = " " * max(room - len(title) - cell_len(value), 1)
        mark = "▸" if here else " "
        if here and self.has_focus:
            return [(set_cell_size(f" {mark}{title}{gap}{value}{unit}", width), "cursor")]
        role = "bad" if line.problem else "changed" if line.changed else "value"
        return [(f" {mark}", "note"), (title, "title"), (gap, "note"), (value, role), (unit, "note")]
