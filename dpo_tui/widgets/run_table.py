"""The table of runs: status, name, progress, figures, a sparkline and a note in one row each, below a header."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from dpo_tui.runs.status_names import EXPLAINED
from dpo_tui.text.numbers import short_number, whole_percent
from dpo_tui.text.printable import printable
from dpo_tui.views.braille import sparkline
from dpo_tui.views.status_labels import LABEL_WIDTH, status_label
from dpo_tui.views.styled_text import StyledRow, justified
from dpo_tui.widgets.rows_widget import RowsWidget, component_classes
from dpo_tui.widgets.step_bar import bar

_CELL_ROLES = ("good", "busy", "bad", "warn", "quiet", "name", "value", "muted", "spark", "bar")
ROLES = (*_CELL_ROLES, *(f"{role}-here" for role in _CELL_ROLES))
"""``<role>-here`` is the role of a cell in the row under the cursor."""
WIDE = 110
"""Width in cells from which names get more room."""
WIDEST = 150
"""Width in cells from which the model and a progress bar are shown."""

# Widths of the columns between the name and the note, the space at their end included.
_MARK, _MODEL, _BAR, _PERCENT, _TRAIN, _HELD_OUT, _SPARK = 2, 26, 16, 8, 12, 9, 6
_FIGURES = _TRAIN + _HELD_OUT + _SPARK


@dataclass(frozen=True, slots=True)
class RunRow:
    """The content of one row.

    Args:
        key: the run's id.
        status: its status, as in `dpo_tui.views.status_labels`.
        name: its name, untrusted text.
        model: its model, untrusted text, shown in a wide table.
        fraction: the share that is done, 0 to 1, or None.
        label: the name of the metric in ``spark``, such as ``acc``.
        spark: values of the sparkline, oldest first.
        held_out: accuracy on held-out pairs, 0 to 1, or None.
        note: an ETA, an age, or the reason of a failure.
        chosen: whether it is selected for comparison.
        figures: whether it has figures of its own; otherwise the note gets their cells.
    """

    key: str
    status: str
    name: str
    model: str = ""
    fraction: float | None = None
    label: str = ""
    spark: tuple[float, ...] = ()
    held_out: float | None = None
    note: str = ""
    chosen: bool = False
    figures: bool = True


class RunTable(RowsWidget, can_focus=True):
    """A list of runs with a cursor, which stays on its run when rows come and go.

    Args:
        id: the ID of the widget in the DOM.

    Attributes:
        runs: the rows.
        cursor: the key of the run under the cursor; None in an empty table.
    """

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
    HELP = "↑/↓ choose a run · enter opens it · space selects it"

    class StartRequested(Message):
        """Posted when enter is pressed in an empty table: the user wants to start a first run."""

    class Opened(Message):
        """Posted when a run is to be opened.

        Attributes:
            key: the run's id.
        """

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    class Highlighted(Message):
        """Posted when the cursor moves to another run.

        Attributes:
            key: the run's id; None in an empty table.
        """

        def __init__(self, key: str | None) -> None:
            super().__init__()
            self.key = key

    class Chosen(Message):
        """Posted when a run is to be selected for comparison, or no longer.

        Attributes:
            key: the run's id.
        """

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    empty_text: tuple[str, ...] = ("No runs yet.",)
    """The rows of an empty table."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self.runs: tuple[RunRow, ...] = ()
        self.cursor: str | None = None
        self._top = 0

    def show(self, runs: Sequence[RunRow]) -> None:
        """Replace the rows; the cursor stays on its run, or moves to a neighbour when the run is gone."""
        before = self._index
        self.runs = tuple(runs)
        keys = [run.key for run in self.runs]
        # Not in a table that stays empty: the message has the screen draw its title and look up its keys again.
        if self.cursor not in keys and (keys or self.cursor is not None):
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

    @property
    def shown(self) -> tuple[int, int]:
        """Numbers of the first and the last run in view, counted from 1; (0, 0) in an empty table."""
        if not self.runs:
            return 0, 0
        self._scroll_to_cursor(self.size.height)
        return self._top + 1, min(self._top + max(self.size.height - 1, 1), len(self.runs))

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
        """Post `Opened` for the run under the cursor, or `StartRequested` in an empty table."""
        self.post_message(self.StartRequested() if self.cursor is None else self.Opened(self.cursor))

    def action_choose(self) -> None:
        """Post `Chosen` for the run under the cursor."""
        if self.cursor is not None:
            self.post_message(self.Chosen(self.cursor))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the row; a second click opens it."""
        index = self._top + event.y - 1  # below the header
        if 0 <= index < len(self.runs):
            if self.runs[index].key == self.cursor and event.chain > 1:
                self.action_open()
            self.action_move(index - self._index)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Move the cursor up."""
        event.stop()
        self.action_move(-1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Move the cursor down."""
        event.stop()
        self.action_move(1)

    def on_focus(self) -> None:
        """Show the cursor."""
        self.restyle()

    def on_blur(self) -> None:
        """Hide the cursor."""
        self.restyle()

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """The rows in view."""
        if not self.runs:
            return [[(line[:width], "muted")] for line in self.empty_text[:height]]
        self._scroll_to_cursor(height)
        return [_header(width), *(self._row(run, width) for run in self.runs[self._top : self._top + height - 1])]

    def _scroll_to_cursor(self, height: int) -> None:
        rows = max(height - 1, 1)
        index = self._index
        self._top = max(min(max(self._top, index - rows + 1), index, max(len(self.runs) - rows, 0)), 0)

    def _row(self, run: RunRow, width: int) -> StyledRow:
        label = status_label(run.status)
        percent = "" if run.fraction is None else f"{whole_percent(run.fraction)} %"
        name_width, note_width = _column_widths(width)
        row: StyledRow = [
            ("▪ " if run.chosen else "  ", "name"),
            (_cell(label.text, LABEL_WIDTH + 1), label.role),
            (_cell(run.name, name_width), "name"),
        ]
        if width >= WIDEST:
            row.append((_cell(run.model, _MODEL), "muted"))
            done, rest = bar(run.fraction or 0.0, _BAR)
            row += [(done, "spark"), (rest, "bar")]
        row.append((f"{percent:>6}  ", "value"))
        explained = run.status in EXPLAINED or not run.figures  # the note says why it has this status
        if explained:
            note_width += _FIGURES  # the note gets the cells of the figures
        else:
            train = f"{run.label} {short_number(run.spark[-1], 2):>5}" if run.spark else ""
            held_out = "" if run.held_out is None else f"{run.held_out:.2f}"
            row.append((f"{train:<{_TRAIN}}{held_out:<{_HELD_OUT}}", "value"))
            row.append((sparkline(list(run.spark), _SPARK - 1) + " " if run.spark else " " * _SPARK, "spark"))
        row.append((_cell(run.note, max(note_width, 0)).rstrip(), "bad" if label.role == "bad" else "muted"))
        if run.key == self.cursor and self.has_focus:
            here: StyledRow = [(text, f"{role}-here") for text, role in row]
            here[0] = ("▪▸" if run.chosen else " ▸", "busy-here")
            return justified(here, [("", "name-here")], width)
        return row


def _column_widths(width: int) -> tuple[int, int]:
    """Cells of the name and of the note in a table of this width."""
    name = 24 if width >= WIDE else 16
    fixed = _MARK + LABEL_WIDTH + 1 + name + _PERCENT + _FIGURES + (_MODEL + _BAR if width >= WIDEST else 0)
    return name, max(width - fixed, 0)


def _header(width: int) -> StyledRow:
    name_width, _ = _column_widths(width)
    text = f"{'':<{_MARK}}{'status':<{LABEL_WIDTH + 1}}{'name':<{name_width}}"
    if width >= WIDEST:
        text += f"{'model':<{_MODEL}}{'':<{_BAR}}"
    text += f"{'done':>6}  {'train':<{_TRAIN}}{'held-out':<{_HELD_OUT}}{'':<{_SPARK}}"
    return [(text[:width], "muted")]


def _cell(text: str, width: int) -> str:
    """Untrusted text in exactly ``width`` cells: an ellipsis where it is cut, and at least a space at the end."""
    text = printable(text, single_line=True)
    if cell_len(text) > width - 1:
        text = set_cell_size(text, max(width - 2, 0)) + "…"
    return set_cell_size(text, width)
