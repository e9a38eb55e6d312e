"""Notifications that a run, sweep or improvement ended or stalled: their causes, and desktop and webhook delivery."""

from collections.abc import Sequence
from dataclasses import dataclass

from dpo_tui.http_post import PostError, post_json
from dpo_tui.runs.status_names import LIVE
from dpo_tui.text.printable import printable
from dpo_tui.views.group_row import RunGroup
from dpo_tui.views.run_list import RunSummary

NOTIFIED = frozenset({"done", "failed", "stalled", "lost"})
"""Statuses whose arrival causes a notification; stopping a run is the user's own doing."""
_TIMEOUT = 10.0
"""Seconds that a webhook may take."""


@dataclass(frozen=True, slots=True)
class Notification:
    """One status change of a run, a sweep or an improvement.

    Args:
        run: its id.
        name: the user's name for it.
        status: its new status.
        reason: why, in one line; empty when unknown.
        kind: ``run``, ``sweep`` or ``improvement``.
    """

    run: str
    name: str
    status: str
    reason: str = ""
    kind: str = "run"

    @property
    def text(self) -> str:
        """One printable line of at most 200 characters."""
        kind = "" if self.kind == "run" else f"{self.kind} "
        reason = f": {self.reason}" if self.reason else ""
        return printable(f"{kind}{self.name} is {self.status}{reason}", single_line=True)[:200]


class StatusChangeDetector:
    """Compares the statuses of runs, sweeps and improvements with those of the last call."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def changes(self, runs: Sequence[RunSummary], groups: Sequence[RunGroup] = ()) -> list[Notification]:
        """What was live at the last call and has a status of `NOTIFIED` now: runs first, then groups."""
        now = [
            *(Notification(one.id, one.name, one.status, _first_line(one.about.get("reason"))) for one in runs),
            *(Notification(one.key, one.name, one.status, _first_line(one.note), one.kind) for one in groups),
        ]
        notifications = [
            one
            for one in now
            if (before := self._seen.get(one.run)) in LIVE and one.status != before and one.status in NOTIFIED
        ]
        self._seen = {one.run: one.status for one in now}
        return notifications


def _first_line(text: object) -> str:
    return str(text or "").partition("\n")[0]


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
        "kind": notification.kind,
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
