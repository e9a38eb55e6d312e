"""The row of key hints: the bindings of the focused widget and of the screen, as the user has mapped them."""

from collections.abc import Iterator
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import Screen

from dpo_tui.views.styled_text import StyledRow
from dpo_tui.widgets.rows_widget import RowsWidget, component_classes

ROLES = ("key", "word", "gap")
ALWAYS = frozenset({"apply", "back", "help"})
"""Actions whose keys are shown however narrow the screen is."""
_KEY_TEXT = {
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
    """Keys and their actions, as many as fit; the others are in the command palette and in the help (``?``)."""

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
        """Redraw when the active bindings change."""
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_updated)

    def _bindings_updated(self, screen: Screen[object]) -> None:
        if screen is self.screen:
            self.redraw()

    def compose(self) -> ComposeResult:
        """Compose no children."""
        return iter(())

    def build_rows(self, width: int, height: int) -> list[StyledRow]:
        """Key and description of each binding, as many as fit."""
        # `active_bindings` has those of the focused widget first, then the screen's, then the app's.
        offered: dict[str, Binding] = {}
        for active in self.screen.active_bindings.values():
            if active.binding.show and active.enabled and active.binding.description:
                offered.setdefault(active.binding.action, active.binding)
        chosen = {action for action in offered if action in ALWAYS}
        room = width - sum(_hint_width(offered[action]) for action in chosen)
        for action, binding in offered.items():
            if action not in chosen and _hint_width(binding) <= room:
                chosen.add(action)
                room -= _hint_width(binding)
        row: StyledRow = []
        for action, binding in offered.items():
            if action in chosen:
                row += [(key_sign(binding), "key"), (f" {binding.description}", "word"), ("  ", "gap")]
        return [row]


def _hint_width(binding: Binding) -> int:
    """Cells that a hint takes, with the gap behind it."""
    return len(key_sign(binding)) + len(binding.description) + 3


def key_sign(binding: Binding) -> str:
    """The text of a binding's key."""
    if binding.key_display:
        return binding.key_display
    return _KEY_TEXT.get(binding.key, binding.key)


def commands_of(screen: Screen[object]) -> Iterator[tuple[str, Binding, DOMNode]]:
    """Yield a hint with the key, the binding, and its node, of every enabled binding of a screen, each command once."""
    listed = set()
    for active in screen.active_bindings.values():
        command = (active.binding.description, active.binding.action)
        if active.binding.description and active.enabled and command not in listed:
            listed.add(command)
            yield f"key {key_sign(active.binding)}", active.binding, active.node
