"""The guide: short pages beside a list, and a walk-through that ends with the name of a method."""

from pathlib import Path
from typing import ClassVar

from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from dpo_tui.screens.guide_pages import PAGES, WALK, GuideAnswer, GuideQuestion
from dpo_tui.widgets.full_screen import FullScreen
from dpo_tui.widgets.compact_inputs import ChoiceList
from dpo_tui.widgets.dialogs import ConfirmDialog, MessageDialog
from dpo_tui.widgets.key_hints import KeyHints
from dpo_tui.widgets.text_pane import TextPane

NARROW = 100


class GuideScreen(FullScreen):
    """Pages to read."""

    CSS_PATH = Path(__file__).with_suffix(".tcss")
    HELP = "↑/↓ choose a page, → or tab goes into it, w asks what you have and names the method."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("w", "walk", "what do you have?", id="guide.walk"),
        Binding("right,l", "app.focus_next", "read", id="guide.read", show=False),
        Binding("left,h", "app.focus_previous", "pages", id="guide.pages", show=False),
        Binding("escape", "app.area('runs')", "runs", id="guide.back"),
    ]

    def compose(self) -> ComposeResult:
        """The list beside the page."""
        yield ChoiceList(*(Option(Content(page.title), page.key) for page in PAGES), id="pages")
        yield TextPane(PAGES[0].text, id="page")
        yield KeyHints()

    def on_mount(self) -> None:
        """Begin with the list."""
        self.query_one(ChoiceList).focus()

    def on_resize(self, event: events.Resize) -> None:
        """Give the page its room."""
        self.set_class(event.size.width < NARROW, "-narrow")

    def open_page(self, key: str) -> None:
        """Show the page that fits where the person came from."""
        keys = [page.key for page in PAGES]
        self.query_one(ChoiceList).highlighted = keys.index(key) if key in keys else 0

    def on_option_list_option_highlighted(self, message: OptionList.OptionHighlighted) -> None:
        """Show the page."""
        message.stop()
        self.query_one("#page", TextPane).show(PAGES[message.option_index].text, top=True)

    @work(exclusive=True, group="walk", exit_on_error=False)
    async def action_walk(self) -> None:
        """Ask, one question after the other, and name the method."""
        place: GuideQuestion | GuideAnswer = WALK
        while isinstance(place, GuideQuestion):
            place = place.yes if await self.app.push_screen_wait(ConfirmDialog(place.ask)) else place.no
        self.app.push_screen(MessageDialog(place.method, place.why))
