"""A run's place in the queue, and whether it is paused, as the user wants them. Standard library only.

Both lie in the run's folder and not in a list for all runs: they go with the run, and an older dpo-tui, which
does not know them, still queues runs in the order in which they came.
"""

import time
from contextlib import suppress
from typing import Any

from dpo_tui.runs import control_requests
from dpo_tui.runs.atomic_files import read_json, write_json_atomic
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.state import State
from dpo_tui.runs.typed_documents import fits_number

Place = tuple[float, str]
"""Sort key in the queue: a time in seconds, and the run's id where two times are equal."""


def place_of(folder: RunFolder, state: State) -> Place:
    """A run's place: when it was queued, unless the user has moved it since.

    Args:
        folder: the run.
        state: its state. A place counts only for the queueing that it was given in: a run that is resumed later queues
            at the end like any other.
    """
    return (_moved_to(read_json(folder.queue_place), state), state.id)


def write_place(folder: RunFolder, state: State, place: float) -> None:
    """Move a run to a place; the caller holds the queue's lock.

    Raises:
        OSError: the file cannot be written.
    """
    write_json_atomic(folder.queue_place, {"queued_at": state.queued_at, "place": place, "t": time.time()})


def is_paused(folder: RunFolder) -> bool:
    """Whether the user has asked the run not to start yet."""
    return control_requests.is_requested(folder, control_requests.PAUSE)


def _moved_to(document: dict[str, Any] | None, state: State) -> float:
    with suppress(KeyError):
        if document is not None and document["queued_at"] == state.queued_at and fits_number(document["place"]):
            return float(document["place"])
    return state.queued_at
