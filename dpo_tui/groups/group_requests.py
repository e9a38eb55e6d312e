"""Requests to a driver (stop, stop now, pause): files in ``control/`` of what it drives. Standard library only."""

import os
from contextlib import suppress

from dpo_tui.errors import RunError
from dpo_tui.groups.driven_folder import DrivenFolder

STOP, STOP_NOW, PAUSE = "stop", "stop-now", "pause"


def request(folder: DrivenFolder, name: str) -> None:
    """Make a request.

    Raises:
        RunError: the folder cannot be written.
    """
    try:
        folder.control.mkdir(mode=0o700, exist_ok=True)
        (folder.control / name).touch(mode=0o600)
    except OSError as error:
        raise RunError(f"{folder.id}: cannot write the request in {folder.control}: {error}") from error


def is_requested(folder: DrivenFolder, name: str) -> bool:
    """Whether a request is pending."""
    return os.path.exists(folder.control / name)


def clear_requests(folder: DrivenFolder, *names: str) -> None:
    """Withdraw requests, or mark them as done; all by default."""
    for name in names or (STOP, STOP_NOW, PAUSE):
        with suppress(OSError):
            os.unlink(folder.control / name)
