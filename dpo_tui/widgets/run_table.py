"""Runs, one a row: what each is doing, how far it is, and how well."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from dpo_tui.runs.statuses import EXPLAINED
from dpo_tui.text.numbers import short_number
from dpo_tui.text.printable import printable
from dpo_tui.views.braille import sparkline
from dpo_tui.views.status_words import WIDTH, status_word
from dpo_tui.views.styled_text import StyledRow, justified
from dpo_tui.widgets.rows_widget import RowsWidget, component_classes
from dpo_tui.widgets.step_bar import bar

_CELL_ROLES = ("good", "busy", "bad", "warn", "quiet", "name", "value", "muted", "spark", "bar")
ROLES = (*_CELL_ROLES, *(f"{role}-here" for role in _CELL_ROLES))
WIDE = 110
WIDEST = 150


@dataclass(frozen=True, slots=True)
class RunRow:
    """What one row says.

    Args:
        key: the run's id.
        status: as in `dpo_tui.views.status_words`.
        name: foreign text.
        model: foreign text, shown where there is room.
        fraction: 0 to 1, or None.
        label: what ``spark`` shows, such as ``acc``.
        spark: values of it, oldest first.
        note: what to know or do: an ETA, an age, why it failed.
        chosen: marked for comparing.
    """

    key: str
    status: str
    name: str
    model: str = ""
    fraction: float | None = None
    label: str = ""
    spark: tuple[float, ...] = ()
    note: str = ""
    chosen: bool = False


class RunTable(RowsWidget, can_focus=True):
    """A list with a cursor; it draws only the rows in view and keeps its place by run, not by number."""

    DEFAULT_CSS = """
    RunTable {
        height: 1fr;
        & > .runs--good { color: $text-success; }
        & > .runs--busy { color: $text-accent; }
        & > .runs--bad { color: $text-error; }
        & > .runs--warn { color: $text-warning; }
        & > .runs--quiet { color: $text-muted; }
        & > .runs--name { color: $text; }
        & > .runs--value { color: $text; }
        & > .runs--muted { color: $text-muted; }
        & > .runs--spark { color: $chart-1; }
        & > .runs--bar { color: $chart-axis; }
        & > .runs--good-here { color: $text-success; background: $panel; text-style: bold; }
        & > .runs--busy-here { color: $text-accent; background: $panel; text-style: bold; }
        & > .runs--bad-here { color: $text-error; background: $panel; text-style: bold; }
        & > .runs--warn-here { color: $text-warning; background: $panel; text-style: bold; }
        & > .runs--quiet-here { color: $text-muted; background: $panel; text-style: bold; }
        & > .runs--name-here { color: $text; background: $panel; text-style: bold; }
        & > .runs--value-here { color: $text; background: $panel; }
        & > .runs--muted-here { color: $text-muted; background: $panel; }
        & > .runs--spark-here { color: $chart-1; background: $panel; }
        & > .runs--bar-here { color: $chart-axis; background: $panel; }
    }
    """
    PREFIX = "runs"
    ROLES = ROLES
    COMPONENT_CLASSES: ClassVar[set[str]] = component_classes(PREFIX, ROLES)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "open", id="runs.open"),
        Binding("space", "choose", "select", id="runs.select"),
        Binding("up,k", "move(-1)", "up", id="runs.up", show=False),
        Binding("down,j", "move(1)", "down", id="runs.down", show=False),
        Binding("pageup", "move(-10)", "page up", id="runs.page-up", show=False),
        Binding("pagedown", "move(10)", "page down", id="runs.page-down", show=False),
        Binding("home,g", "move(-100000)", "first", id="runs.first", show=False),
        Binding("end,G", "move(100000)", "last", id="runs.last", show=False),
    ]
    HELP = "↑/↓ choose a run · enter opens it · space selects it for comparing"

    class BeginAsked(Message):
        """Enter was pressed where there is no run to open."""

    class Opened(Message):
        """A run is to be looked at."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    class Highlighted(Message):
        """The cursor stands on another run (None when there is none)."""

        def __init__(self, key: str | None) -> None:
            super().__init__()
            self.key = key

    class Chosen(Message):
        """A run's mark for comparing was flipped."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    empty_words: tuple[str, ...] = ("No runs yet.",)
    """What stands where runs will be, by row."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self.runs: tuple[RunRow, ...] = ()
        self.cursor: str | None = None
        self._top = 0

    def show(self, runs: Sequence[RunRow]) -> None:
        """Replace the rows; the cursor stays on its run, or goes to its neighbour when the run is gone."""
        before = self._index
        self.runs = tuple(runs)
        keys = [run.key for run in self.runs]
        if self.cursor not in keys:
            self.cursor = keys[min(before, len(keys) - 1)] if keys else None
            self.post_message(self.Highlighted(self.cursor))
        self.redraw()

    @property
    def current(self) -> RunRow | None:
        """The run under the cursor."""
        return next((run for run in self.runs if run.key == self.cursor), None)

    @property
    def _index(self) -> int:
        return next((index for index, run in enumerate(self.runs) if run.key == self.cursor), 0)

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        if not self.runs:
            return
        index = min(max(self._index + by, 0), len(self.runs) - 1)
        if self.runs[index].key != self.cursor:
            self.cursor = self.runs[index].key
            self.post_message(self.Highlighted(self.cursor))
            self.redraw()

    def action_open(self) -> None:
        """Look at the run under the cursor; begin the first one where there is none."""
        self.post_message(self.BeginAsked() if self.cursor is None else self.Opened(self.cursor))

    def action_choose(self) -> None:
        """Mark the run under the cursor, or take its mark back."""
        if self.cursor is not None:
            self.post_message(self.Chosen(self.cursor))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the row; a second click opens it."""
        index = self._top + event.y
        if index < len(self.runs):
            if self.runs[index].key == self.cursor and event.chain > 1:
                self.action_open()
            self.action_move(index - self._index)

    def on_focus(self) -> None:
        """Show the cursor."""
        self.restyle()

    def on_blur(self) -> None:
        """Hide the cursor."""
        self.restyle()

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """The rows in view."""
        if not self.runs:
            return [[(words[:width], "muted")] for words in self.empty_words[:height]]
        index = self._index
        self._top = min(max(self._top, index - height + 1), index, max(len(self.runs) - height, 0))
        self._top = max(self._top, 0)
        return [self._row(run, width) for run in self.runs[self._top : self._top + height]]

    def _row(self, run: RunRow, width: int) -> StyledRow:
        look = status_word(run.status)
        percent = "" if run.fraction is None else f"{int(run.fraction * 100)} %"
        name_width = 24 if width >= WIDE else 16
        note_width = max(width - 2 - WIDTH - 2 - name_width - 7 - 22, 12)
        row: StyledRow = [
            ("▪ " if run.chosen else "  ", "name"),
            (_cell(look.text, WIDTH + 1), look.role),
            (_cell(run.name, name_width), "name"),
        ]
        if width >= WIDEST:
            row.append((_cell(run.model, 26), "muted"))
            done, rest = bar(run.fraction or 0.0, 16)
            row += [(done, "spark"), (rest, "bar")]
            note_width -= 42
        row.append((f"{percent:>6}  ", "value"))
        probe = run.status in EXPLAINED
        if run.spark and not probe:
            row.append((f"{run.label} {short_number(run.spark[-1], 2):>5} ", "value"))
            row.append((sparkline(list(run.spark), 8) + "  ", "spark"))
        elif probe:
            note_width += 21  # nothing to draw: the reason takes the room
        else:
            row.append((" " * 21, "value"))
        row.append((_cell(run.note, max(note_width, 0)).rstrip(), "bad" if look.role == "bad" else "muted"))
        if run.key == self.cursor and self.has_focus:
            here: StyledRow = [(text, f"{role}-here") for text, role in row]
            here[0] = ("▪▸" if run.chosen else " ▸", "busy-here")
            return justified(here, [("", "name-here")], width)
        return row


def _cell(text: str, width: int) -> str:
    """Foreign text in exactly ``width`` cells, an ellipsis where it is cut, and a space behind it."""
    text = printable(text, single_line=True)
    if cell_len(text) > width - 1:
        text = set_cell_size(text, max(width - 2, 0)) + "…"
    return set_cell_size(text, width)
