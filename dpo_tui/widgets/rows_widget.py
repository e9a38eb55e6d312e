"""A widget made of rows that resends only the cells that changed.

Textual resends every cell of a region that is refreshed. Over a slow connection the whole of a live screen is too much
for one new number, so these widgets keep what they drew last and refresh just the span of each row that differs.
"""

from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from dpo_tui.views.styled_text import StyledRow

_BLANK = "\0"
"""Under this name the style of what no role colours is kept; no role is called so."""


class RowsWidget(Widget):
    """A widget that describes itself as rows of (text, role).

    Subclasses set `PREFIX` and `ROLES`, style ``.<prefix>--<role>`` in their CSS, list those names in
    ``COMPONENT_CLASSES`` (see `component_classes`), and implement `build_rows`.
    """

    DEFAULT_CSS = "RowsWidget { width: 1fr; }"
    PREFIX: ClassVar[str] = "rows"
    ROLES: ClassVar[tuple[str, ...]] = ()

    _rows: list[StyledRow]
    _strips: list[Strip]
    _drawn: tuple[int, int] | None = None
    _role_styles: dict[str, Style] | None = None

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """The rows to show in ``width`` by ``height`` cells; fewer rows leave the rest blank."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Build the rows again and repaint what differs; nothing while the widget is hidden."""
        width, height = self.size
        if not (self.is_attached and self.display and width and height):
            return
        if self._drawn != (width, height):
            self._build()
            self.refresh()
            return
        before = self._rows
        self._build()
        for y, (old, new) in enumerate(zip(before, self._rows, strict=True)):
            span = changed_span(old, new)
            if span is not None:
                self.refresh(Region(span[0], y, span[1] - span[0], 1))

    def action_copy(self) -> None:
        """Copy the rows shown to the clipboard of the terminal (OSC 52), through SSH too."""
        lines = ["".join(text for text, _ in row).rstrip() for row in self._rows]
        self.app.copy_to_clipboard("\n".join(lines).strip("\n"))
        self.notify("Copied what is shown.", markup=False)

    def restyle(self) -> None:
        """Build again with new colours and repaint everything."""
        self._drawn = self._role_styles = None
        self.redraw()

    def notify_style_update(self) -> None:
        """Colours may have changed with the theme or the focus."""
        super().notify_style_update()
        self._drawn = self._role_styles = None

    def render_line(self, y: int) -> Strip:
        """One row, from what was built last."""
        if self._drawn != (self.size.width, self.size.height):
            self._build()
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width)

    def _build(self) -> None:
        width, height = self.size
        rows = self.build_rows(width, height)[:height]
        rows += [[] for _ in range(height - len(rows))]
        if self._role_styles is None:  # a tenth of what a redraw costs
            self._role_styles = {role: self.get_component_rich_style(f"{self.PREFIX}--{role}") for role in self.ROLES}
            self._role_styles[_BLANK] = self.rich_style
        styles = self._role_styles
        self._rows = rows
        self._strips = [_strip(row, styles, width, styles[_BLANK]) for row in rows]
        self._drawn = (width, height)


def component_classes(prefix: str, roles: tuple[str, ...]) -> set[str]:
    """The component class of every role."""
    return {f"{prefix}--{role}" for role in roles}


def changed_span(old: StyledRow, new: StyledRow) -> tuple[int, int] | None:
    """The first and one past the last cell in which two rows differ; None when they show the same."""
    if old == new:
        return None
    before, after = _cells(old), _cells(new)
    size = max(len(before), len(after))
    before += [(" ", "")] * (size - len(before))
    after += [(" ", "")] * (size - len(after))
    differing = [index for index in range(size) if before[index] != after[index]]
    return (differing[0], differing[-1] + 1) if differing else None


def _cells(row: StyledRow) -> list[tuple[str, str]]:
    """One entry a terminal cell: a wide character fills two."""
    cells: list[tuple[str, str]] = []
    for text, role in row:
        if text.isascii():
            cells.extend((sign, role) for sign in text)
            continue
        for sign in text:
            cells.extend([(sign, role)] * cell_len(sign))
    return cells


def _strip(row: StyledRow, styles: dict[str, Style], width: int, blank: Style) -> Strip:
    return Strip([Segment(text, styles.get(role, blank)) for text, role in row if text]).adjust_cell_length(
        width, blank
    )
