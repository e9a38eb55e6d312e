"""Which runs the Runs screen lists, and in which order."""

from collections.abc import Callable, Sequence
from typing import Any

from dpo_tui.runs.status_names import LIVE
from dpo_tui.views.run_list import RunSummary

ORDERS: dict[str, Callable[[RunSummary], Any]] = {
    "newest": lambda run: (),
    "name": lambda run: run.name.casefold(),
    "status": lambda run: run.status,
    "held-out accuracy": lambda run: -run.held_out if run.held_out is not None else 1.0,
}
"""Sort keys by the name that the screen shows. Runs that a key does not tell apart stay newest first."""


def listed(summaries: Sequence[RunSummary], text: str, order: str) -> list[RunSummary]:
    """The runs to list: what is running or waiting comes first, whatever the order, since it is what people look for.

    Args:
        summaries: all runs, newest first.
        text: words that must all occur in a run's id, name, model, status or dataset, in upper or lower case.
        order: a key of `ORDERS`.
    """
    words = text.casefold().split()
    found = [run for run in summaries if all(word in _searched(run) for word in words)] if words else list(summaries)
    key = ORDERS[order]
    return sorted(found, key=lambda run: (run.status not in LIVE, key(run)))


def next_order(order: str) -> str:
    """The order after this one, in the sequence of `ORDERS`."""
    names = list(ORDERS)
    return names[(names.index(order) + 1) % len(names)]


def _searched(run: RunSummary) -> str:
    return "\n".join((run.id, run.name, run.model, run.status, run.dataset)).casefold()
