"""A one-line field whose cursor does not blink: blinking costs bytes over SSH all day long."""

from typing import Any

from textual.widgets import Input


class LineInput(Input):
    """An `Input` of one row without border and blinking; takes the same arguments."""

    DEFAULT_CSS = "LineInput { border: none; height: 1; padding: 0; }"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"compact": True, **options})
        self.cursor_blink = False
