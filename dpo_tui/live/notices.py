"""Say that a run ended or stalled, in the ways the person asked for: terminal bell, desktop notice, webhook."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from dpo_tui.live.run_list import LIVE, RunGlance
from dpo_tui.plain import printable

WORTH_TELLING = frozenset({"done", "failed", "stalled", "lost"})
_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Notice:
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


class Watchman:
    """Remembers statuses, and tells which changes between two looks are worth a notice."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def look(self, glances: Sequence[RunGlance]) -> list[Notice]:
        """Compare with the last look; runs that were over from the start are no news."""
        notices = []
        for glance in glances:
            before = self._seen.get(glance.id)
            if before in LIVE and glance.status != before and glance.status in WORTH_TELLING:
                reason = str(glance.about.get("reason") or "").partition("\n")[0]
                notices.append(Notice(glance.id, glance.name, glance.status, reason))
        self._seen = {glance.id: glance.status for glance in glances}
        return notices


def desktop_sequence(notice: Notice) -> str:
    """OSC 9, which iTerm2, Windows Terminal, kitty, foot, WezTerm and others turn into a desktop notice."""
    return f"\x1b]9;dpo-tui: {notice.words}\x07"


def post(url: str, notice: Notice) -> None:
    """Send a notice to a webhook as JSON; needs a thread.

    Raises:
        OSError: the address cannot be reached, or refused it.
        ValueError: it is no http(s) address.
    """
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{url!r} is no http(s) address")
    body = {"run": notice.run, "name": notice.name, "status": notice.status, "reason": notice.reason}
    import urllib.request  # a tenth of the start, and few have a webhook

    request = urllib.request.Request(  # noqa: S310 - the scheme is checked above
        url,
        data=json.dumps({**body, "text": f"dpo-tui: {notice.words}"}).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=_TIMEOUT):  # noqa: S310 - the scheme is checked above
        pass
