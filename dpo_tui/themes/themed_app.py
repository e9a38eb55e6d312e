"""A Textual app that knows our themes; the product's app and the widgets' tests build on it."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from textual.app import App
from textual.filter import LineFilter

from dpo_tui.themes.ascii_filter import AsciiFilter
from dpo_tui.themes.glyphs import in_ascii
from dpo_tui.themes.loader import DEFAULT, ThemeProblem, chart_variables, load, to_textual
from dpo_tui.themes.pick import ascii_only, charset, theme_for


class ThemedApp(App[Any]):
    """Registers every theme and starts with the one that suits the terminal.

    Args:
        theme_name: start with this theme instead of the one that suits the terminal.
        watch_css: reload changed style sheets, for developers.
    """

    def __init__(self, theme_name: str | None = None, *, watch_css: bool = False) -> None:
        palettes, problems = load()
        self.palettes = palettes
        self.theme_problems: list[ThemeProblem] = problems
        self.charset = charset(os.environ, getattr(sys.__stderr__, "encoding", None))
        self._ascii_filter = AsciiFilter(self.charset)
        self._ascii_only = ascii_only(os.environ)
        wanted = theme_for(os.environ, chosen=theme_name)
        wanted = wanted if wanted in palettes else DEFAULT
        # Under NO_COLOR Textual decides here, before there is a theme, how to take colours away; taken for an RGB
        # theme, the terminal's own colours would come out black on black.
        super().__init__(watch_css=watch_css, ansi_color=True if palettes[wanted].ansi else None)
        self.set_reactive(App.ansi_color, None)
        for palette in palettes.values():
            self.register_theme(to_textual(palette))
        self.theme = wanted

    @property
    def ascii_only(self) -> bool:
        """Whether glyphs beyond ASCII are drawn as their twins."""
        return self._ascii_only

    @ascii_only.setter
    def ascii_only(self, wanted: bool) -> None:
        if wanted != self._ascii_only:
            self._ascii_only = wanted
            for screen in self.screen_stack if self.is_running else ():
                for widget in screen.walk_children(with_self=True):
                    widget.refresh()

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's filters, and in ASCII mode ours: whatever draws, what reaches the terminal goes through them."""
        return [*super().get_line_filters(), *([self._ascii_filter] if self._ascii_only else ())]

    def exit(self, result: Any = None, return_code: int = 0, message: Any | None = None) -> None:
        """End the app; its last words are in ASCII, too, where the screens were."""
        if self._ascii_only and isinstance(message, str):
            message = in_ascii(message, self.charset)
        super().exit(result, return_code, message)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Chart colours for themes that are not ours."""
        return chart_variables(self.palettes[DEFAULT])
