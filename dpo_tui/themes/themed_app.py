"""Base of a Textual app with the themes, the ASCII mode and updates of changed cells; the app and tests subclass it."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from textual import events
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.app import App
from textual.filter import LineFilter
from textual.screen import Screen

from dpo_tui import paths
from dpo_tui.themes.ascii_filter import AsciiFilter
from dpo_tui.themes.changed_cells import ChangedCells, TerminalCells
from dpo_tui.themes.glyphs import CONSOLE_CHARSET, in_ascii
from dpo_tui.themes.terminal_choice import ascii_only, charset, theme_for
from dpo_tui.themes.theme_files import DEFAULT, ThemeProblem, chart_variables, load, to_textual


class ThemedApp(App[Any]):
    """Registers every theme and starts with the one that suits the terminal.

    Args:
        theme_name: start with this theme instead of the one that suits the terminal.
        watch_css: reload style sheets when they change, for developers.

    Attributes:
        palettes: every theme by name.
        theme_problems: what is wrong in the theme files.
        charset: the terminal's character set.
    """

    def __init__(self, theme_name: str | None = None, *, watch_css: bool = False) -> None:
        palettes, problems = load()
        self.palettes = palettes
        self.theme_problems: list[ThemeProblem] = problems
        self.charset = charset(os.environ, getattr(sys.__stderr__, "encoding", None))
        self._console = self.charset == CONSOLE_CHARSET
        self._ascii_filter = AsciiFilter(self.charset, console=self._console)
        self._ascii_only = ascii_only(os.environ)
        self._terminal_cells = TerminalCells()
        name = theme_for(os.environ, chosen=theme_name)
        if theme_name is not None and theme_name not in palettes:
            problems.append(ThemeProblem(paths.settings(), "theme", f"there is no {theme_name!r}; Settings lists all"))
        name = name if name in palettes else DEFAULT
        # Under NO_COLOR Textual decides here, before a theme is set, how to remove colours: for an RGB theme it would
        # turn the terminal's own colours into black on black.
        super().__init__(watch_css=watch_css, ansi_color=True if palettes[name].ansi else None)
        self.set_reactive(App.ansi_color, None)
        for palette in palettes.values():
            self.register_theme(to_textual(palette))
        self.theme = name

    @property
    def ascii_only(self) -> bool:
        """Whether glyphs beyond ASCII are drawn as their ASCII equivalents."""
        return self._ascii_only

    @ascii_only.setter
    def ascii_only(self, wanted: bool) -> None:
        if wanted != self._ascii_only:
            self._ascii_only = wanted
            for screen in self.screen_stack if self.is_running else ():
                for widget in screen.walk_children(with_self=True):
                    widget.refresh()

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        """Write an update of a screen to the terminal: only the cells that it does not show yet."""
        shown: Any = renderable
        if isinstance(renderable, (LayoutUpdate, ChopsUpdate)):
            shown = ChangedCells(renderable, self._terminal_cells, (self.size.width, self.size.height))
        super()._display(screen, shown)

    def on_resize(self, event: events.Resize) -> None:
        """Write the whole screen again: the terminal may show anything now.

        Textual's drivers post the event also when the app takes the terminal back, after ctrl+z or an editor.
        """
        self.action_repaint()

    def action_repaint(self) -> None:
        """Write the whole screen again, over what another program wrote there."""
        self._terminal_cells.forget()
        if self.screen_stack:
            self.screen.refresh()

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's filters and, in ASCII mode, the `AsciiFilter`."""
        return [*super().get_line_filters(), *([self._ascii_filter] if self._ascii_only else ())]

    def exit(self, result: Any = None, return_code: int = 0, message: Any | None = None) -> None:
        """End the app; in ASCII mode its message is in ASCII too."""
        if self._ascii_only and isinstance(message, str):
            message = in_ascii(message, self.charset, console=self._console)
        super().exit(result, return_code, message)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Chart colours for Textual's own themes, which define none."""
        return chart_variables(self.palettes[DEFAULT])


def has_few_colours(app: App[Any]) -> bool:
    """Whether the theme has the terminal's sixteen colours at most, by which not all see lines apart."""
    return isinstance(app, ThemedApp) and app.theme in app.palettes and app.palettes[app.theme].ansi
