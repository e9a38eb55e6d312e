"""What every full screen of the app shares: failures become a dialog, work runs in threads, help finds the focus."""

from collections.abc import Callable
from typing import ClassVar

from textual.message import Message
from textual.screen import Screen
from textual.worker import Worker, WorkerState

from dpo_tui.errors import DpoTuiError
from dpo_tui.widgets.dialogs import MessageDialog


class FullScreen(Screen[None]):
    """A full screen. Its workers are started with ``exit_on_error=False``; what they raise is shown, not swallowed."""

    HELP: ClassVar[str] = ""
    GUIDE_PAGE: ClassVar[str] = "start"
    """The page of the guide that fits here."""
    GOES_BACK: ClassVar[bool] = False
    """Whether leaving goes back to where the person came from, and not to the runs."""

    class Leave(Message):
        """The person is done here; the screen keeps its state if it is one of the five."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._owed: dict[str, Callable[[], None]] = {}

    @property
    def is_front(self) -> bool:
        """Whether this screen is the one that is seen.

        Screens must not draw behind another one: Textual 8.2 repaints the front screen again and again as long as one
        behind it has something to repaint. While the app closes no screen is seen.
        """
        stack = self.app.screen_stack
        return bool(stack) and stack[-1] is self

    def draw_when_front(self, draw: Callable[[], None]) -> None:
        """Draw now, or, while a dialog lies over this screen, once when it is gone (see `is_front`).

        Args:
            draw: a method that draws what is known by then.
        """
        stack = self.app.screen_stack
        if self in stack and stack[-1] is not self:
            self._owed[draw.__name__] = draw
        elif self.is_attached:
            draw()

    def on_screen_resume(self) -> None:
        """Draw what came while a dialog lay over this screen."""
        owed, self._owed = self._owed, {}
        for draw in owed.values():
            self.call_after_refresh(draw)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Show what a worker failed with."""
        if event.state is WorkerState.ERROR and event.worker.error is not None:
            self.show_failure(event.worker.error)

    def show_failure(self, error: BaseException) -> None:
        """Say what went wrong and what to do, in a dialog."""
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
