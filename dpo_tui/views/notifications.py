"""Say that a run ended or stalled, in the ways the person asked for: terminal bell, desktop notice, webhook."""

from collections.abc import Sequence
from dataclasses import dataclass

from dpo_tui.http_post import post_json
from dpo_tui.runs.statuses import LIVE
from dpo_tui.text.printable import printable
from dpo_tui.views.run_list import RunSummary

WORTH_TELLING = frozenset({"done", "failed", "stalled", "lost"})
_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Notification:
    """One thing to tell.

    Args:
        run: the run's id.
        name: what the person calls it.
        status: what became of it.
        reason: why, if it says.
    """

    run: str
    name: str
    status: str
    reason: str = ""

    @property
    def words(self) -> str:
        """In one printable line."""
        reason = f": {self.reason}" if self.reason else ""
        return printable(f"{self.name} is {self.status}{reason}", single_line=True)[:200]


class StatusChangeDetector:
    """Remembers statuses, and tells which changes between two looks are worth a notice."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def look(self, glances: Sequence[RunSummary]) -> list[Notification]:
        """Compare with the last look; runs that were over from the start are no news."""
        notices = []
        for glance in glances:
            before = self._seen.get(glance.id)
            if before in LIVE and glance.status != before and glance.status in WORTH_TELLING:
                reason = str(glance.about.get("reason") or "").partition("\n")[0]
                notices.append(Notification(glance.id, glance.name, glance.status, reason))
        self._seen = {glance.id: glance.status for glance in glances}
        return notices


def desktop_sequence(notice: Notification) -> str:
    """OSC 9, which iTerm2, Windows Terminal, kitty, foot, WezTerm and others turn into a desktop notice."""
    return f"\x1b]9;dpo-tui: {notice.words}\x07"


def post(url: str, notice: Notification) -> None:
    """Send a notice to a webhook as JSON; needs a thread.

    Raises:
        OSError: the address cannot be reached, refused it, or redirects elsewhere.
        ValueError: it is no http(s) address.
    """
    body = {"run": notice.run, "name": notice.name, "status": notice.status, "reason": notice.reason}
    post_json(url, {**body, "text": f"dpo-tui: {notice.words}"}, headers={}, timeout=_TIMEOUT)
