"""A Textual app that knows our themes; the product's app and the widgets' tests build on it."""

import os
from typing import Any

from textual.app import App

from dpo_tui.themes.loader import DEFAULT, ThemeProblem, chart_variables, load, to_textual
from dpo_tui.themes.pick import ascii_only, theme_for


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
        self.ascii_only = ascii_only(os.environ)
        wanted = theme_for(os.environ, chosen=theme_name)
        wanted = wanted if wanted in palettes else DEFAULT
        # Under NO_COLOR Textual decides here, before there is a theme, how to take colours away; taken for an RGB
        # theme, the terminal's own colours would come out black on black.
        super().__init__(watch_css=watch_css, ansi_color=True if palettes[wanted].ansi else None)
        self.set_reactive(App.ansi_color, None)
        for palette in palettes.values():
            self.register_theme(to_textual(palette))
        self.theme = wanted

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Chart colours for themes that are not ours."""
        return chart_variables(self.palettes[DEFAULT])
