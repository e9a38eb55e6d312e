"""The keys that do something here, in one row; it follows the focus and the person's own key map."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import Screen

from dpo_tui.views.styled_text import StyledRow
from dpo_tui.widgets.rows_widget import RowsWidget, component_classes

ROLES = ("key", "word", "gap")
ALWAYS = frozenset({"apply", "back", "help"})
"""Actions whose keys are named however narrow the screen is."""
_SIGNS = {
    "enter": "enter",
    "escape": "esc",
    "space": "space",
    "slash": "/",
    "question_mark": "?",
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
    "pageup": "pgup",
    "pagedown": "pgdn",
    "ctrl+p": "^p",
    "delete": "del",
}


class KeyHints(RowsWidget):
    """What the focused widget and the screen offer; keys that do not fit are in the command palette and in ``?``."""

    DEFAULT_CSS = """
    KeyHints {
        dock: bottom;
        height: 1;
        padding: 0 1;
        & > .keys--key { color: $footer-key-foreground; text-style: bold; }
        & > .keys--word { color: $text-muted; }
        & > .keys--gap { color: $text-muted; }
    }
    """
    PREFIX = "keys"
    ROLES = ROLES
    COMPONENT_CLASSES: ClassVar[set[str]] = component_classes(PREFIX, ROLES)

    def on_mount(self) -> None:
        """Follow the bindings of the screen."""
        self.screen.bindings_updated_signal.subscribe(self, self._follow)

    def _follow(self, screen: Screen[object]) -> None:
        if screen is self.screen:
            self.redraw()

    def compose(self) -> ComposeResult:
        """Nothing inside."""
        return iter(())

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """Key, word, key, word, as many as fit."""
        # A focused widget's own keys first, then the screen's, then the app's: the nearest matters most.
        offered: dict[str, Binding] = {}
        for active in self.screen.active_bindings.values():
            if active.binding.show and active.enabled and active.binding.description:
                offered.setdefault(active.binding.action, active.binding)
        kept = {action for action in offered if action in ALWAYS}
        room = width - sum(_taken(offered[action]) for action in kept)
        for action, binding in offered.items():
            if action not in kept and _taken(binding) <= room:
                kept.add(action)
                room -= _taken(binding)
        row: StyledRow = []
        for action, binding in offered.items():
            if action in kept:
                row += [(key_sign(binding), "key"), (f" {binding.description}", "word"), ("  ", "gap")]
        return [row]


def _taken(binding: Binding) -> int:
    return len(key_sign(binding)) + len(binding.description) + 3


def key_sign(binding: Binding) -> str:
    """How to write a key."""
    if binding.key_display:
        return binding.key_display
    return _SIGNS.get(binding.key, binding.key)
