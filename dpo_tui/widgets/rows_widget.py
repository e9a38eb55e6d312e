"""Base class of widgets made of rows of styled text, which repaint only the cells that changed.

Textual sends every cell of a refreshed region to the terminal. To keep the traffic over SSH small, these widgets keep
the rows drawn last and refresh only the span of each row that differs.
"""

import asyncio
import os
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from dpo_tui.views.clipboard_note import LIMIT, clipboard_note
from dpo_tui.views.styled_text import StyledRow

_BLANK = "\0"
"""The key of the style for text without a role in the cache of styles; not the name of any role."""


class RowsWidget(Widget):
    """A widget whose content is rows of (text, role).

    Subclasses set `PREFIX` and `ROLES`, list the component classes ``<PREFIX>--<role>`` in ``COMPONENT_CLASSES`` (see
    `component_classes`), style them in ``DEFAULT_CSS``, and implement `build_rows`.
    """

    DEFAULT_CSS = "RowsWidget { width: 1fr; }"
    PREFIX: ClassVar[str] = "rows"
    """Prefix of the component classes."""
    ROLES: ClassVar[tuple[str, ...]] = ()
    """Roles that `build_rows` uses."""

    _rows: list[StyledRow]
    _strips: list[Strip]
    _drawn: tuple[int, int] | None = None
    _role_styles: dict[str, Style] | None = None

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """Build the content.

        Args:
            width: cells in a row.
            height: rows of the widget.

        Returns:
            The rows from the top; missing ones are blank, further ones are cut off.
        """
        raise NotImplementedError

    def redraw(self) -> None:
        """Build the rows again and repaint what differs. Does nothing while the widget is hidden."""
        width, height = self.size
        if not (self.is_attached and self.display and width and height):
            return
        if self._drawn != (width, height):
            # After a resize or a restyle the terminal shows something else than `_rows`: a comparison with them would
            # leave cells as they are that have to change.
            self._build()
            self.refresh()
            return
        before = self._rows
        self._build()
        for y, (old, new) in enumerate(zip(before, self._rows, strict=True)):
            span = changed_span(old, new)
            if span is not None:
                self.refresh(Region(span[0], y, span[1] - span[0], 1))

    def copied_text(self) -> str:
        """What `action_copy` copies: the rows shown."""
        return "\n".join("".join(text for text, _ in row).rstrip() for row in self._rows).strip("\n")

    async def action_copy(self) -> None:
        """Copy through the terminal (OSC 52, which works through SSH), and say what may keep it from the clipboard."""
        whole = self.copied_text()
        text = whole.encode()[:LIMIT].decode("utf-8", "ignore")
        self.app.copy_to_clipboard(text)
        # In a thread: it may ask tmux.
        note = await asyncio.to_thread(clipboard_note, os.environ)
        cut = f" It is cut at {LIMIT:,} bytes, the most that terminals take." if len(text) < len(whole) else ""
        count = text.count("\n") + 1
        done = f"Sent {count} {'line' if count == 1 else 'lines'} to the terminal's clipboard"
        self.notify(f"{done}, but {note}{cut}" if note else f"{done}.{cut}", timeout=12 if note else 4, markup=False)

    def restyle(self) -> None:
        """Look up the styles again and repaint everything."""
        self._drawn = self._role_styles = None
        self.redraw()

    def notify_style_update(self) -> None:
        """Drop cached styles: the theme or the focus has changed."""
        super().notify_style_update()
        self._drawn = self._role_styles = None

    def render_line(self, y: int) -> Strip:
        """One row of what was built last; builds the rows first where the size has changed."""
        # Textual may ask for a line before the owner's next `redraw`: at the first paint, and after a resize.
        if self._drawn != (self.size.width, self.size.height):
            self._build()
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width)

    def _build(self) -> None:
        """Build the rows and their strips for the current size."""
        width, height = self.size
        rows = self.build_rows(width, height)[:height]
        rows += [[] for _ in range(height - len(rows))]
        if self._role_styles is None:  # cached: the lookup took a tenth of the time of a redraw
            self._role_styles = {role: self.get_component_rich_style(f"{self.PREFIX}--{role}") for role in self.ROLES}
            self._role_styles[_BLANK] = self.rich_style
        styles = self._role_styles
        self._rows = rows
        self._strips = [_strip(row, styles, width, styles[_BLANK]) for row in rows]
        self._drawn = (width, height)


def component_classes(prefix: str, roles: tuple[str, ...]) -> set[str]:
    """The component class of every role, for ``COMPONENT_CLASSES``."""
    return {f"{prefix}--{role}" for role in roles}


def changed_span(old: StyledRow, new: StyledRow) -> tuple[int, int] | None:
    """The first cell in which two rows differ, and the one after the last; None when they show the same.

    Args:
        old: the row drawn before.
        new: the row to draw.
    """
    if old == new:
        return None
    # Cells and not pieces of text: the same text may be divided into pieces at other places than before.
    before, after = _cells(old), _cells(new)
    size = max(len(before), len(after))
    before += [(" ", "")] * (size - len(before))
    after += [(" ", "")] * (size - len(after))
    differing = [index for index in range(size) if before[index] != after[index]]
    return (differing[0], differing[-1] + 1) if differing else None


def _cells(row: StyledRow) -> list[tuple[str, str]]:
    """(character, role) of each terminal cell; a wide character fills two."""
    cells: list[tuple[str, str]] = []
    for text, role in row:
        if text.isascii():
            cells.extend((character, role) for character in text)
            continue
        for character in text:
            cells.extend([(character, role)] * cell_len(character))
    return cells


def _strip(row: StyledRow, styles: dict[str, Style], width: int, blank: Style) -> Strip:
    return Strip([Segment(text, styles.get(role, blank)) for text, role in row if text]).adjust_cell_length(
        width, blank
    )
