"""Base class of the app's full screens: worker errors become dialogs, drawing waits until the screen is in front."""

from collections.abc import Callable, Collection
from typing import ClassVar

from textual.message import Message
from textual.screen import Screen
from textual.worker import Worker, WorkerState

from dpo_tui.errors import DpoTuiError
from dpo_tui.widgets.dialogs import MessageDialog
from dpo_tui.widgets.key_hints import key_sign


class FullScreen(Screen[None]):
    """A full screen. Start its workers with ``exit_on_error=False``: what they raise is shown in a dialog.

    Args:
        id: the ID of the screen in the DOM.
    """

    HELP: ClassVar[str] = ""
    """What ``?`` shows about the screen."""
    GUIDE_PAGE: ClassVar[str] = "start"
    """The page of the guide about the screen's subject."""
    goes_back: bool = False
    """Whether leaving the screen returns to the screen before it; otherwise to the list of runs."""

    class Leave(Message):
        """Posted when the user leaves the screen."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._deferred: dict[str, Callable[[], None]] = {}

    @property
    def is_front(self) -> bool:
        """Whether this screen is on top of the screen stack; False for all screens while the app closes.

        A screen must not draw behind another one: Textual 8.2 repaints the front screen again and again as long as one
        behind it has something to repaint.
        """
        stack = self.app.screen_stack
        return bool(stack) and stack[-1] is self

    def draw_when_front(self, draw: Callable[[], None]) -> None:
        """Call a method that draws now; while another screen is in front, once as soon as it is gone (see `is_front`).

        Args:
            draw: reads the state to draw when it is called. Calls of one method are merged by its name.
        """
        stack = self.app.screen_stack
        if self in stack and stack[-1] is not self:
            self._deferred[draw.__name__] = draw
        elif self.is_attached:
            draw()

    def on_screen_resume(self) -> None:
        """Make the calls that waited for the screen to be in front."""
        deferred, self._deferred = self._deferred, {}
        for draw in deferred.values():
            self.call_after_refresh(draw)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Show the error of a worker."""
        if event.state is WorkerState.ERROR and event.worker.error is not None:
            self.show_failure(event.worker.error)

    def show_failure(self, error: BaseException) -> None:
        """Show an error in a dialog: its message and hint, or, for a bug, its type and a request to report it."""
        if isinstance(error, DpoTuiError):
            self.app.push_screen(MessageDialog("That did not work", error.message, error.hint or ""))
            return
        self.app.push_screen(
            MessageDialog(
                "Something broke inside dpo-tui",
                f"{type(error).__name__}: {error}",
                "Runs go on. Please report this with the text above.",
            )
        )


def help_text(screen: Screen[object], remapped: Collection[str]) -> str:
    """What ``?`` shows: the help of a screen, its focused widget and the app, and the keys that the user replaced.

    Args:
        screen: the screen in front.
        remapped: ids of the bindings to which settings.toml gives other keys.
    """
    bound = (active.binding for active in screen.active_bindings.values())
    own = {binding.id: f"{key_sign(binding)} {binding.description}" for binding in bound if binding.id in remapped}
    parts = [
        screen.HELP if isinstance(screen, FullScreen) else "",
        getattr(screen.focused, "HELP", ""),
        "1 Runs · 2 New · 3 Data · 4 Judge · 5 Guide · , settings · ctrl+p every command · q quit; runs go on",
        # The texts above name the default keys.
        "In place of these, settings.toml has " + " · ".join(own.values()) if own else "",
    ]
    return "\n\n".join(filter(None, parts))
