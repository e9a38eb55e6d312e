"""Settings, one a row: title, value, where it comes from; edited in place, folded where they are for experts."""

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
        name: the setting's.
        section: its table; a heading stands where it changes.
        title: two or three words.
        value: as people write it.
        unit: behind the value.
        changed: whether the person set it.
        problem: what is wrong with it; empty when nothing is.
        advanced: folded away until asked for.
        options: the values it can take, when there are few; it is cycled then, not typed.
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
    """A list of settings with a cursor. It changes nothing itself: it says what the person wants changed."""

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
        """The cursor stands on another setting."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    class EditRequested(Message):
        """A setting is to be typed."""

        def __init__(self, row: FormRow) -> None:
            super().__init__()
            self.row = row

    class Changed(Message):
        """A setting was cycled to another value, or cleared (an empty value)."""

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

    def show(self, rows: Sequence[FormRow]) -> None:
        """Replace the settings; the cursor stays on its setting."""
        self.form_rows = tuple(rows)
        if self._cursor not in {row.name for row in self._visible} and self._visible:
            self._cursor = self._visible[0].name
        self.redraw()

    @property
    def current(self) -> FormRow | None:
        """The setting under the cursor."""
        return next((row for row in self._visible if row.name == self._cursor), None)

    @property
    def _visible(self) -> list[FormRow]:
        return [row for row in self.form_rows if self.unfolded or not row.advanced or row.changed or row.problem]

    def go_to(self, name: str) -> None:
        """Put the cursor on a setting; nothing when it is not shown."""
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
        """Cycle a setting with few values, ask for the text of any other."""
        row = self.current
        if row is not None and row.options:
            self.action_cycle(1)
        elif row is not None:
            self.post_message(self.EditRequested(row))

    def action_cycle(self, by: int) -> None:
        """Go to the next value of a setting with few of them."""
        row = self.current
        if row is None or not row.options:
            return
        at = row.options.index(row.value) if row.value in row.options else -by
        self.post_message(self.Changed(row.name, row.options[(at + by) % len(row.options)]))

    def action_clear(self) -> None:
        """Take the person's own value back."""
        if self.current is not None:
            self.post_message(self.Changed(self.current.name, ""))

    def action_fold(self) -> None:
        """Show the advanced settings, or fold them away."""
        self.unfolded = not self.unfolded
        self.show(self.form_rows)

    def on_focus(self) -> None:
        """Show the cursor."""
        self.restyle()

    def on_blur(self) -> None:
        """Show the cursor's place more quietly."""
        self.restyle()

    def on_click(self, event: events.Click) -> None:
        """Put the cursor on the row clicked."""
        places = self._places()
        at = self._top + event.y
        if at < len(places) and isinstance(place := places[at], FormRow):
            self._cursor = place.name
            self.post_message(self.Picked(self._cursor))
            self.redraw()

    def _places(self) -> list[FormRow | str]:
        """Rows and headings, in order."""
        places: list[FormRow | str] = []
        section = ""
        for row in self._visible:
            if row.section != section:
                section = row.section
                places.append(section)
            places.append(row)
        hidden = len(self.form_rows) - len(self._visible)
        if hidden:
            places.append(f"+ {hidden} advanced settings (a)")
        return places

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """Headings and settings in view; the cursor's row always is."""
        places = self._places()
        at = next((i for i, p in enumerate(places) if isinstance(p, FormRow) and p.name == self._cursor), 0)
        self._top = min(max(self._top, at - height + 2), max(at - 1, 0), max(len(places) - height, 0))
        self._top = max(self._top, 0)
        return [self._row(place, width) for place in places[self._top : self._top + height]]

    def _row(self, place: FormRow | str, width: int) -> StyledRow:
        if isinstance(place, str):
            return [(place[:width], "fold" if place.startswith("+") else "section")]
        here = place.name == self._cursor
        unit = f" {place.unit}" if place.unit else ""
        room = max(width - 4 - len(unit), 8)
        title = place.title[: room - 2]
        value = printable(place.value or "—", single_line=True)
        if cell_len(value) > room - len(title) - 2:
            value = "…" + value[-(room - len(title) - 3) :]  # of a path the end tells more
        gap = " " * max(room - len(title) - cell_len(value), 1)
        mark = "▸" if here else " "
        if here and self.has_focus:
            return [(set_cell_size(f" {mark}{title}{gap}{value}{unit}", width), "cursor")]
        role = "bad" if place.problem else "changed" if place.changed else "value"
        return [(f" {mark}", "note"), (title, "title"), (gap, "note"), (value, role), (unit, "note")]
