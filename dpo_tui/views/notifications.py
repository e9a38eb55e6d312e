"""Notifications that a run ended or stalled: the status changes that cause one, and desktop and webhook delivery."""

from collections.abc import Sequence
from dataclasses import dataclass

from dpo_tui.http_post import PostError, post_json
from dpo_tui.runs.status_names import LIVE
from dpo_tui.text.printable import printable
from dpo_tui.views.run_list import RunSummary

NOTIFIED = frozenset({"done", "failed", "stalled", "lost"})
"""Statuses whose arrival causes a notification; stopping a run is the user's own doing."""
_TIMEOUT = 10.0
"""Seconds that a webhook may take."""


@dataclass(frozen=True, slots=True)
class Notification:
    """One status change of a run.

    Args:
        run: the run's id.
        name: the user's name for it.
        status: its new status.
        reason: why, in one line; empty when unknown.
    """

    run: str
    name: str
    status: str
    reason: str = ""

    @property
    def text(self) -> str:
        """One printable line of at most 200 characters."""
        reason = f": {self.reason}" if self.reason else ""
        return printable(f"{self.name} is {self.status}{reason}", single_line=True)[:200]


class StatusChangeDetector:
    """Compares the statuses of runs with those of the last call."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def changes(self, runs: Sequence[RunSummary]) -> list[Notification]:
        """The runs that were live at the last call and have a status of `NOTIFIED` now."""
        notifications = []
        for run in runs:
            before = self._seen.get(run.id)
            if before in LIVE and run.status != before and run.status in NOTIFIED:
                reason = str(run.about.get("reason") or "").partition("\n")[0]
                notifications.append(Notification(run.id, run.name, run.status, reason))
        self._seen = {run.id: run.status for run in runs}
        return notifications


def desktop_sequence(notification: Notification) -> str:
    """The escape sequence OSC 9, a desktop notification in iTerm2, Windows Terminal, kitty, foot and WezTerm."""
    return f"\x1b]9;dpo-tui: {notification.text}\x07"


def post(url: str, notification: Notification) -> None:
    """Send a notification to a webhook as JSON. Call it from a thread.

    Raises:
        OSError: the address cannot be reached, answers with an error, or redirects elsewhere.
        ValueError: it is not an http(s) address.
    """
    body = {
        "run": notification.run,
        "name": notification.name,
        "status": notification.status,
        "reason": notification.reason,
    }
    try:
        post_json(url, {**body, "text": f"dpo-tui: {notification.text}"}, headers={}, timeout=_TIMEOUT)
    except PostError as error:
        if error.redirects:
            # The path of a webhook is its secret, and the target of a redirect mostly repeats it.
            raise PostError("it redirects elsewhere, which is not followed", status=error.status) from None
        raise
