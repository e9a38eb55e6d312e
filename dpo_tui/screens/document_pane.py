"""TextPane over one file of a run folder, such as its samples: read in a thread, and only when the file has changed."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from dpo_tui.widgets.full_screen import FullScreen
from dpo_tui.views.styled_text import Paragraph
from dpo_tui.widgets.text_pane import TextPane

FileVersion = tuple[int, int, int]
"""Inode, size in bytes and modification time in nanoseconds: files grow by appending or are replaced as a whole."""


class DocumentPane(TextPane):
    """A page made of one file.

    A samples file takes longer to parse than a redraw may last, and any file may lie on a slow network disk, so nothing
    of it, its status included, is read on the event loop.

    Args:
        path: the file; it need not exist yet. None leaves the page empty.
        paragraphs_of: makes the page of the file, or says that there is none; called in a thread.
    """

    def __init__(
        self,
        path: Path | None,
        paragraphs_of: Callable[[Path], Sequence[Paragraph]],
        *,
        id: str | None = None,  # noqa: A002 - Textual's own name
    ) -> None:
        super().__init__(id=id)
        self._path = path
        self._paragraphs_of = paragraphs_of
        self._reading = False
        self._shown_version: FileVersion | None = None
        self._shown_once = False

    def poll(self) -> None:
        """Read the file if it has changed since it was shown; does nothing while a read is under way."""
        screen = self.screen
        if self._path is None or self._reading or not isinstance(screen, FullScreen):
            return
        self._reading = True
        # The screen's worker and not the pane's: `FullScreen` shows what its own workers raise.
        screen.run_worker(partial(self._read, self._path), thread=True, group="documents", exit_on_error=False)

    def _read(self, path: Path) -> None:
        try:
            # The version is taken before the content: what is appended in between is read again at the next poll.
            version = file_version(path)
            if self._shown_once and version == self._shown_version:
                return
            paragraphs = self._paragraphs_of(path)
            if self.is_attached:
                self.app.call_from_thread(self._show_paragraphs, version, paragraphs)
        finally:
            self._reading = False  # only now: two reads at once could be shown in the wrong order

    def _show_paragraphs(self, version: FileVersion | None, paragraphs: Sequence[Paragraph]) -> None:
        screen = self.screen if self.is_attached else None
        if not isinstance(screen, FullScreen) or not screen.is_front:
            return  # nothing is drawn behind a dialog: the poll after it reads this version again
        self._shown_version, self._shown_once = version, True
        self.show(paragraphs)


def file_version(path: Path) -> FileVersion | None:
    """What changes whenever the file does; None while there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
