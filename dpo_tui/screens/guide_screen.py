"""Guide: short pages beside their list, and questions that lead to a method."""

from pathlib import Path
from typing import ClassVar

from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from dpo_tui.screens.guide_pages import FIRST_QUESTION, PAGES, GuideAnswer, GuideQuestion
from dpo_tui.widgets.choice_list import ChoiceList
from dpo_tui.widgets.dialogs import AskDialog, TellDialog
from dpo_tui.widgets.full_screen import FullScreen
from dpo_tui.widgets.key_hints import KeyHints
from dpo_tui.widgets.text_pane import TextPane

NARROW_WIDTH = 100
"""Columns below which the list gets fewer of them."""


class GuideScreen(FullScreen):
    """A list of pages, and the page under its cursor."""

    CSS_PATH = Path(__file__).with_suffix(".tcss")
    HELP = "↑/↓ choose a page, → or tab goes into it, w asks what you have and names the method."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("w", "walk", "what do you have?", id="guide.walk"),
        Binding("right,l", "app.focus_next", "read", id="guide.read", show=False),
        Binding("left,h", "app.focus_previous", "pages", id="guide.pages", show=False),
        Binding("escape", "app.open_screen('runs')", "runs", id="guide.back"),
    ]

    def compose(self) -> ComposeResult:
        """The list, the page beside it, and keys."""
        yield ChoiceList(*(Option(Content(page.title), page.key) for page in PAGES), id="pages")
        yield TextPane(PAGES[0].text, id="page")
        yield KeyHints()

    def on_mount(self) -> None:
        """Focus the list."""
        self.query_one(ChoiceList).focus()

    def on_resize(self, event: events.Resize) -> None:
        """Narrow the list on a narrow terminal."""
        self.set_class(event.size.width < NARROW_WIDTH, "-narrow")

    def open_page(self, key: str) -> None:
        """Show a page.

        Args:
            key: its `GuidePage.key`; an unknown one shows the first page.
        """
        keys = [page.key for page in PAGES]
        self.query_one(ChoiceList).highlighted = keys.index(key) if key in keys else 0

    def on_option_list_option_highlighted(self, message: OptionList.OptionHighlighted) -> None:
        """Show the page under the cursor."""
        message.stop()
        self.query_one("#page", TextPane).show(PAGES[message.option_index].text, top=True)

    @work(exclusive=True, group="walk", exit_on_error=False)
    async def action_walk(self) -> None:
        """Ask the questions, and show the method that the answers lead to."""
        node: GuideQuestion | GuideAnswer = FIRST_QUESTION
        while isinstance(node, GuideQuestion):
            node = node.yes if await self.app.push_screen_wait(AskDialog(node.ask)) else node.no
        self.app.push_screen(TellDialog(node.method, node.why))
