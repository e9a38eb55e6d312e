"""The dialog that downloads a model from the hub: bytes, speed, and a key that cancels."""

import time
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from dpo_tui.hub.hub_process import HubError, HubProcess
from dpo_tui.text.durations import rough_duration
from dpo_tui.text.printable import printable
from dpo_tui.widgets.dialogs import DIALOG_CSS

_BAR = 40
"""Cells."""
_NOISE_SECONDS = 2.0
"""Before that a speed says nothing."""


class DownloadDialog(ModalScreen[bool]):
    """Downloads a model into the hub's cache; its result is whether all of it is there.

    Args:
        name: hub id.
    """

    DEFAULT_CSS = DIALOG_CSS.format(name="DownloadDialog")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "cancel", id="download.cancel")]

    def __init__(self, name: str) -> None:
        super().__init__()
        self._model = name
        self._process: HubProcess | None = None
        self._ended = False
        """Whether there is nothing more to cancel: all is there, or the hub refused."""

    def compose(self) -> ComposeResult:
        """Title, progress, keys."""
        with Vertical():
            yield Static(Content(f"Download {printable(self._model)}"), classes="-title")
            yield Static(Content("asking the hub …"), id="progress")
            yield Static(Content("esc cancel; what has come stays and is not sent again"), classes="-keys")

    def on_mount(self) -> None:
        """Begin."""
        self._process = HubProcess()
        self._follow(self._process)

    def on_unmount(self) -> None:
        """End the download."""
        if self._process is not None:
            self._process.close()

    @work(thread=True, exit_on_error=False)
    def _follow(self, process: HubProcess) -> None:
        began, first = time.monotonic(), -1
        try:
            for done, total in process.download(self._model):
                first = done if first < 0 else first
                text = progress_text(done, total, done - first, time.monotonic() - began)
                self.app.call_from_thread(self._show, text)
        except HubError as error:
            if self.is_attached:
                self.app.call_from_thread(self._failed, error)
            return
        self.app.call_from_thread(self.dismiss, True)

    def _show(self, text: str) -> None:
        if self.is_attached:
            self.query_one("#progress", Static).update(Content(text))

    def _failed(self, error: HubError) -> None:
        if self.is_attached:
            self._ended = True
            self._show("\n".join(filter(None, (f"✗ {printable(error.message)}", printable(error.hint or "")))))
            self.query_one(".-keys", Static).update(Content("esc close"))

    def action_cancel(self) -> None:
        """End the download and close."""
        if not self._ended:
            self.notify("Cancelled. What has come stays and is not sent again.", markup=False)
        self.dismiss(False)


def progress_text(done: int, total: int, received: int, seconds: float) -> str:
    """A bar, and the bytes with speed and time.

    Args:
        done: bytes that are there.
        total: bytes in all.
        received: bytes that came in ``seconds``.
        seconds: since the download began.
    """
    share = done / total if total else 0.0
    bar = "━" * round(share * _BAR) + "─" * (_BAR - round(share * _BAR))
    text = f"{bar} {share:4.0%}\n{done / 1e6:,.0f} of {total / 1e6:,.0f} MB"
    if received > 0 and seconds >= _NOISE_SECONDS:
        speed = received / seconds
        text += f"   {speed / 1e6:,.1f} MB/s   about {rough_duration((total - done) / speed)} left"
    return text
