"""Requests to a driver (stop, stop now, pause): files in ``control/`` of what it drives. Standard library only."""

from dpo_tui.errors import RunError
from dpo_tui.groups.driven_folder import DrivenFolder
from dpo_tui.runs import request_files

STOP, STOP_NOW, PAUSE = "stop", "stop-now", "pause"


def request(folder: DrivenFolder, name: str) -> None:
    """Make a request.

    Raises:
        RunError: the folder cannot be written.
    """
    try:
        request_files.make(folder.control, name)
    except OSError as error:
        raise RunError(f"{folder.id}: cannot write the request in {folder.control}: {error}") from error


def is_requested(folder: DrivenFolder, name: str) -> bool:
    """Whether a request is pending."""
    return request_files.is_made(folder.control, name)


def clear_requests(folder: DrivenFolder, *names: str) -> None:
    """Withdraw requests, or mark them as done; all by default."""
    request_files.withdraw(folder.control, *(names or (STOP, STOP_NOW, PAUSE)))
