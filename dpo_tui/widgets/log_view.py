"""A view of a growing text log: it follows the end, scrolls, and searches; only the lines in view are in memory."""

from pathlib import Path
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input

from dpo_tui.views.clipboard_note import LIMIT
from dpo_tui.views.log_file import LogFile, LogLine
from dpo_tui.views.styled_text import StyledRow, wrap_pieces
from dpo_tui.widgets.compact_inputs import LineInput
from dpo_tui.widgets.rows_widget import RowsWidget, component_classes

ROLES = ("line", "match", "note", "error")
_ERROR_MARKS = ("error", "traceback", "out of memory", "exception")


class LogPane(RowsWidget, can_focus=True):
    """The lines in view and the position in the file; `LogView` adds the search field.

    Args:
        path: the file to show, if any.
        id: the ID of the widget in the DOM.

    Attributes:
        log_file: the file shown.
        following: whether the end of the file is shown as it grows.
        search_text: the text searched for last.
        left: cells of each line that are left of the pane.
        wrapped: whether long lines go on in the next row.
    """

    DEFAULT_CSS = """
    LogPane {
        height: 1fr;
        & > .log--line { color: $text; }
        & > .log--note { color: $text-muted; }
        & > .log--error { color: $text-error; }
        & > .log--match {
            color: $block-cursor-foreground;
            background: $block-cursor-background;
            text-style: $block-cursor-text-style;
        }
    }
    """
    PREFIX = "log"
    ROLES = ROLES
    COMPONENT_CLASSES: ClassVar[set[str]] = component_classes(PREFIX, ROLES)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_lines(-1)", "up", id="log.up", show=False),
        Binding("down,j", "scroll_lines(1)", "down", id="log.down", show=False),
        Binding("pageup", "scroll_pages(-1)", "page up", id="log.page-up", show=False),
        Binding("pagedown,space", "scroll_pages(1)", "page down", id="log.page-down", show=False),
        Binding("left,h", "scroll_columns(-1)", "left", id="log.left", show=False),
        Binding("right,l", "scroll_columns(1)", "right", id="log.right", show=False),
        Binding("w", "wrap", "wrap", id="log.wrap"),
        Binding("Y", "copy", "copy", id="log.copy", show=False),
        Binding("home,g", "first", "start", id="log.first", show=False),
        Binding("end,G", "follow", "follow the end", id="log.follow", show=False),
        Binding("slash", "search", "search", id="log.search"),
        Binding("n", "next_match", "next match", id="log.next"),
        Binding("N", "previous_match", "previous match", id="log.previous", show=False),
    ]
    HELP = (
        "↑/↓ and page keys scroll · ←/→ show what is beyond the edge, w wraps lines · g start · G follow the end · "
        "/ search · n N next and previous match · Y copies the lines in view, whole"
    )

    class SearchRequested(Message):
        """Posted when the search field is to be opened."""

    class NotFound(Message):
        """Posted when a search found no further line.

        Attributes:
            query: the text searched for.
        """

        def __init__(self, query: str) -> None:
            super().__init__()
            self.query = query

    def __init__(self, path: Path | None = None, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self.log_file = LogFile(path) if path is not None else None
        self.following = True
        self.search_text = ""
        self.left = 0
        self.wrapped = False
        self._lines: list[LogLine] = []
        self._seen_size = -1

    def open(self, path: Path) -> None:
        """Show another file from its end."""
        self.log_file, self.following, self._seen_size = LogFile(path), True, -1
        self.poll()

    def poll(self) -> None:
        """Show what was appended to the file, if its end is in view."""
        if self.log_file is None or not (self.is_attached and self.size.height):
            return
        size = self.log_file.size()
        if size == self._seen_size:
            return
        self._seen_size = size
        if self.following:
            self._lines = self.log_file.tail(self._room)
        elif len(self._lines) < self._room:
            self._show_from(self._lines[0].offset if self._lines else 0)
        self.redraw()

    def go_to_line(self, line: int) -> None:
        """Show the file from a line on, by its number from 1."""
        if self.log_file is not None:
            self.following = False
            self._show_from(self.log_file.offset_of(line))

    @property
    def _room(self) -> int:
        """Lines in view: the last row shows the position."""
        return max(self.size.height - 1, 1)

    def on_resize(self, event: events.Resize) -> None:
        """Read as many lines as the new height shows."""
        self._seen_size = -1
        if self.following:
            self.poll()
        elif self._lines:
            self._show_from(self._lines[0].offset)

    def _show_from(self, offset: int) -> None:
        if self.log_file is not None:
            self._lines = self.log_file.after(offset, self._room)
            self.redraw()

    def action_scroll_lines(self, count: int) -> None:
        """Scroll by lines; at the end of the file, follow it again."""
        if self.log_file is None or not self._lines:
            return
        if count < 0:
            earlier = self.log_file.before(self._lines[0].offset, -count)
            if earlier:
                self.following = False
                self._lines = [*earlier, *self._lines][: self._room]
        else:
            later = self.log_file.after(self._lines[-1].end, count)
            self._lines = [*self._lines, *later][-self._room :]
            self.following = self._lines[-1].end >= self.log_file.size()
        self.redraw()

    def action_scroll_pages(self, count: int) -> None:
        """Scroll by pages."""
        self.action_scroll_lines(count * self._room)

    def action_scroll_columns(self, steps: int) -> None:
        """Show what is further right or left, half a pane a step."""
        step = max(self.size.width // 2, 1)
        longest = max((cell_len(line.text) for line in self._lines), default=0)
        self.left = max(min(self.left + steps * step, longest - step), 0)
        self.wrapped = False
        self.redraw()

    def action_wrap(self) -> None:
        """Wrap long lines, or cut them again."""
        self.wrapped, self.left = not self.wrapped, 0
        self.redraw()

    def action_first(self) -> None:
        """Go to the start of the file."""
        self.following = False
        self._show_from(0)

    def action_follow(self) -> None:
        """Go to the end and follow it."""
        self.following, self._seen_size = True, -1
        self.poll()

    def action_search(self) -> None:
        """Post `SearchRequested`."""
        self.post_message(self.SearchRequested())

    def action_next_match(self) -> None:
        """Go to the next line that contains the text searched for."""
        if self._lines:
            self._search(self._lines[0].end, False)

    def action_previous_match(self) -> None:
        """Go to the previous line that contains the text searched for."""
        if self._lines:
            self._search(self._lines[0].offset, True)

    def search_for(self, query: str) -> None:
        """Search from the first line in view on; when following, backwards from the end."""
        self.search_text = query
        self.redraw()
        if query and self._lines:
            self._search(self._lines[-1].end if self.following else self._lines[0].offset, self.following)

    @work(thread=True, exclusive=True, group="log-search")
    def _search(self, offset: int, backwards: bool) -> None:
        if self.log_file is None or not self.search_text:
            return
        found = self.log_file.find(self.search_text, offset, backwards=backwards)
        self.app.call_from_thread(self._show_match, found)

    def _show_match(self, found: int | None) -> None:
        if found is None:
            self.post_message(self.NotFound(self.search_text))
            return
        self.following = False
        self._show_from(found)

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """The lines, and a row with the position in the file."""
        if self.log_file is None or not self._lines:
            return [[("nothing written yet", "note")]]
        rows = self._rows_in_view(width, height - 1)
        rows += [[] for _ in range(height - 1 - len(rows))]
        size = max(self.log_file.size(), 1)
        where = "following" if self.following else f"{min(self._lines[-1].end * 100 // size, 100)} %"
        column = f"   from column {self.left + 1}" if self.left else ""
        return [*rows, [(f"{where} of {size / 1e6:,.1f} MB{column}", "note")]]

    def _rows_in_view(self, width: int, height: int) -> list[StyledRow]:
        """The lines that fit, wrapped or cut; where the end is followed and not all fit, the last ones."""
        if not self.wrapped:
            return [self._row(line.text, width) for line in self._lines[:height]]
        wrapped = [wrap_pieces(self._row(line.text, cell_len(line.text)), width) for line in self._lines]
        rows = [row for line in wrapped for row in line]
        return rows[-height:] if self.following else rows[:height]

    def copied_text(self) -> str:
        """The lines in view, whole also where the screen cuts them; without the row of the position."""
        if self.log_file is None:
            return ""
        return "\n".join(self.log_file.whole(line, LIMIT + 1) for line in self._lines[: self._room])

    def _row(self, text: str, width: int) -> StyledRow:
        if self.left:
            text = "…" + _from_cell(text, self.left + 1) if cell_len(text) > self.left else ""
        if cell_len(text) > width:
            text = set_cell_size(text, width - 1) + "…"
        at = text.lower().find(self.search_text.lower()) if self.search_text else -1
        role = "error" if any(mark in text.lower() for mark in _ERROR_MARKS) else "line"
        if at < 0:
            return [(text, role)]
        end = at + len(self.search_text)
        return [(text[:at], role), (text[at:end], "match"), (text[end:], role)]


def _from_cell(text: str, cell: int) -> str:
    """What of a text is right of its first cells; a character of two cells that is cut becomes a space."""
    used = 0
    for index, character in enumerate(text):
        if used >= cell:
            return " " * (used - cell) + text[index:]
        used += cell_len(character)
    return ""


class LogView(Vertical):
    """A `LogPane` with a search field that ``/`` opens.

    Args:
        path: the file to show at first; `LogPane.open` shows another.
        id: the ID of the widget in the DOM.
    """

    DEFAULT_CSS = """
    LogView { height: 1fr; }
    LogView Input { display: none; }
    LogView Input.-open { display: block; }
    """

    def __init__(self, path: Path | None = None, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._path = path

    def compose(self) -> ComposeResult:
        """The pane over the search field."""
        yield LogPane(self._path)
        yield LineInput(placeholder="search the log")

    @property
    def pane(self) -> LogPane:
        """The pane with the lines."""
        return self.query_one(LogPane)

    def on_log_pane_search_requested(self, message: LogPane.SearchRequested) -> None:
        """Open the search field."""
        message.stop()
        field = self.query_one(Input)
        field.add_class("-open")
        field.focus()

    def on_log_pane_not_found(self, message: LogPane.NotFound) -> None:
        """Notify the user."""
        message.stop()
        self.notify("No further line has these words.", title="Search", timeout=3, markup=False)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Search, and focus the log."""
        message.stop()
        self._close()
        self.pane.search_for(message.value)

    def on_key(self, event: events.Key) -> None:
        """Close the search field on escape."""
        if event.key == "escape" and self.query_one(Input).has_focus:
            event.stop()
            self._close()

    def _close(self) -> None:
        self.query_one(Input).remove_class("-open")
        self.pane.focus()
