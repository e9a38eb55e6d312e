"""A log to read while it grows: follows the end, goes anywhere, finds words; one screenful in memory."""

from pathlib import Path
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input

from dpo_tui.views.log_file import LogFile, LogLine
from dpo_tui.views.styled_text import StyledRow
from dpo_tui.widgets.compact_inputs import LineInput
from dpo_tui.widgets.rows_widget import RowsWidget, component_classes

ROLES = ("line", "match", "note", "error")
_ALARMS = ("error", "traceback", "out of memory", "exception")


class LogPane(RowsWidget, can_focus=True):
    """The lines in view; `LogView` adds the search field."""

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
        Binding("Y", "copy", "copy", id="log.copy", show=False),
        Binding("home,g", "first", "start", id="log.first", show=False),
        Binding("end,G", "follow", "follow the end", id="log.follow", show=False),
        Binding("slash", "search", "search", id="log.search"),
        Binding("n", "next_match", "next match", id="log.next"),
        Binding("N", "previous_match", "previous match", id="log.previous", show=False),
    ]
    HELP = "↑/↓ and page keys scroll · g start · G follow the end · / search · n N next and previous match · Y copies"

    class SearchRequested(Message):
        """The person wants to type a search."""

    class NotFound(Message):
        """A search went to the end of the file without a match."""

        def __init__(self, words: str) -> None:
            super().__init__()
            self.words = words

    def __init__(self, path: Path | None = None, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self.log_file = LogFile(path) if path is not None else None
        self.following = True
        self.words = ""
        self._lines: list[LogLine] = []
        self._seen_size = -1

    def open(self, path: Path) -> None:
        """Show another file from its end."""
        self.log_file, self.following, self._seen_size = LogFile(path), True, -1
        self.poll()

    def poll(self) -> None:
        """Look whether the file grew, and follow it when the end is in view."""
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
        """Show the file from a line on, the first being 1."""
        if self.log_file is not None:
            self.following = False
            self._show_from(self.log_file.offset_of(line))

    @property
    def _room(self) -> int:
        return max(self.size.height - 1, 1)

    def on_resize(self, event: events.Resize) -> None:
        """Fill the new height."""
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
        """Scroll by lines; scrolling past the end follows it again."""
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
        """Scroll by screenfuls."""
        self.action_scroll_lines(count * self._room)

    def action_first(self) -> None:
        """Go to the start of the file."""
        self.following = False
        self._show_from(0)

    def action_follow(self) -> None:
        """Go to the end and stay there."""
        self.following, self._seen_size = True, -1
        self.poll()

    def action_search(self) -> None:
        """Ask for words to look for."""
        self.post_message(self.SearchRequested())

    def action_next_match(self) -> None:
        """Go to the next line with the words searched for."""
        if self._lines:
            self._search(self._lines[0].end, False)

    def action_previous_match(self) -> None:
        """Go to the line before with the words searched for."""
        if self._lines:
            self._search(self._lines[0].offset, True)

    def search_for(self, words: str) -> None:
        """Find words from the line at the top on, or, when following, backwards from the end."""
        self.words = words
        self.redraw()
        if words and self._lines:
            self._search(self._lines[-1].end if self.following else self._lines[0].offset, self.following)

    @work(thread=True, exclusive=True, group="log-search")
    def _search(self, offset: int, backwards: bool) -> None:
        if self.log_file is None or not self.words:
            return
        found = self.log_file.find(self.words, offset, backwards=backwards)
        self.app.call_from_thread(self._arrive, found)

    def _arrive(self, found: int | None) -> None:
        if found is None:
            self.post_message(self.NotFound(self.words))
            return
        self.following = False
        self._show_from(found)

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """The lines, then where in the file they are."""
        if self.log_file is None or not self._lines:
            return [[("nothing written yet", "note")]]
        rows = [self._row(line.text, width) for line in self._lines[: height - 1]]
        rows += [[] for _ in range(height - 1 - len(rows))]
        size = max(self.log_file.size(), 1)
        where = "following" if self.following else f"{min(self._lines[-1].end * 100 // size, 100)} %"
        return [*rows, [(f"{where} of {size / 1e6:,.1f} MB", "note")]]

    def _row(self, text: str, width: int) -> StyledRow:
        if cell_len(text) > width:
            text = set_cell_size(text, width - 1) + "…"
        at = text.lower().find(self.words.lower()) if self.words else -1
        role = "error" if any(alarm in text.lower() for alarm in _ALARMS) else "line"
        if at < 0:
            return [(text, role)]
        end = at + len(self.words)
        return [(text[:at], role), (text[at:end], "match"), (text[end:], role)]


class LogView(Vertical):
    """A log pane with a search field that appears when asked for.

    Args:
        path: the file to show; more can come with `LogPane.open`.
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
        """Pane over search field."""
        yield LogPane(self._path)
        yield LineInput(placeholder="search the log")

    @property
    def pane(self) -> LogPane:
        """The lines."""
        return self.query_one(LogPane)

    def on_log_pane_search_requested(self, message: LogPane.SearchRequested) -> None:
        """Open the search field."""
        message.stop()
        field = self.query_one(Input)
        field.add_class("-open")
        field.focus()

    def on_log_pane_not_found(self, message: LogPane.NotFound) -> None:
        """Say so beside the log."""
        message.stop()
        self.notify("No further line has these words.", title="Search", timeout=3, markup=False)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Search and give the keys back to the log."""
        message.stop()
        self._close()
        self.pane.search_for(message.value)

    def on_key(self, event: events.Key) -> None:
        """Escape leaves the search field."""
        if event.key == "escape" and self.query_one(Input).has_focus:
            event.stop()
            self._close()

    def _close(self) -> None:
        self.query_one(Input).remove_class("-open")
        self.pane.focus()
