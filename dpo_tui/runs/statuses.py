"""The names of a run's statuses, and which of them mean what. Standard library only."""

from typing import Literal

StateName = Literal["queued", "starting", "running", "stopping", "done", "failed", "stopped"]
"""What the supervisor writes. `dpo_tui.runs.status` adds what only a reader can know: stalled and lost."""

UNKNOWN = "unknown"
"""Of a run whose folder this version cannot read."""

ENDED = frozenset({"done", "failed", "stopped"})
"""States that the supervisor writes last; nothing but a resume changes them."""
OVER = ENDED | {"lost"}
"""Statuses of a run that ended, in any way, as a reader sees it."""
LIVE = frozenset({"queued", "starting", "running", "stalled", "stopping"})
"""Statuses of a run that someone looks after."""
RESUMABLE = OVER - {"done"}
"""Statuses in which a run can be resumed."""
EXPLAINED = frozenset({"queued", "stalled", "failed", "lost", UNKNOWN})
"""Statuses whose reason is worth more than any figure where there is room for one thing."""

GLYPHS = {
    "queued": "◌",
    "starting": "◔",
    "running": "●",
    "stalled": "◍",
    "stopping": "◑",
    "done": "✓",
    "failed": "✗",
    "stopped": "■",
    "lost": "⚑",
}
"""A sign of one cell for each status."""
