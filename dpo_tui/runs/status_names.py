"""The statuses of a run, the sets they belong to, and the phases of its worker. Standard library only."""

from typing import Literal

StateName = Literal["queued", "starting", "running", "stopping", "done", "failed", "stopped"]
"""Written by the supervisor. `dpo_tui.runs.status` adds those that only a reader can determine: stalled and lost."""

UNKNOWN = "unknown"
"""The status of a run whose folder this version cannot read."""

ENDED = frozenset({"done", "failed", "stopped"})
"""Final states in state.json; only a resume changes them."""
OVER = ENDED | {"lost"}
"""Statuses of a run that ended in any way, as a reader sees it."""
LIVE = frozenset({"queued", "starting", "running", "stalled", "stopping"})
"""Statuses of a run that has a supervisor."""
RESUMABLE = OVER - {"done"}
"""Statuses in which a run can be resumed."""
EXPLAINED = frozenset({"queued", "stalled", "failed", "lost", UNKNOWN})
"""Statuses for which a line with room for one item shows the reason and not a number."""

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
"""A symbol of one terminal cell for each status."""

# In their order. The five steps are load-model, add-adapters, load-pairs, train and save; the others are parts of a
# neighbouring step that may take long enough to be shown by themselves.
PHASES = {
    "starting": "Starting",
    "load-model": "Loading the model",
    "add-adapters": "Adding LoRA adapters",
    "load-pairs": "Loading the pairs",
    "reference": "Scoring the pairs with the reference",
    "evaluate": "Evaluating on held-out pairs",
    "sample": "Answering the sample prompts",
    "train": "Training",
    "save": "Saving",
    "done": "Done",
}
"""Phases of the worker as progress.json has them, each with its label."""
