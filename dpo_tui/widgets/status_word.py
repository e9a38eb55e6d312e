"""A run's status as glyph and word: never colour alone."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StatusWord:
    """How one status looks.

    Args:
        glyph: one cell, from the characters that terminal fonts have.
        word: what people read.
        role: the colour's role: ``good``, ``busy``, ``bad``, ``warn`` or ``quiet``.
        ended: whether nothing more will happen by itself.
    """

    glyph: str
    word: str
    role: str
    ended: bool = False

    @property
    def text(self) -> str:
        """Glyph and word."""
        return f"{self.glyph} {self.word}"


STATUSES: dict[str, StatusWord] = {
    "queued": StatusWord("◌", "queued", "quiet"),
    "starting": StatusWord("◔", "starting", "busy"),
    "running": StatusWord("●", "training", "busy"),
    "stalled": StatusWord("◍", "stalled", "warn"),
    "stopping": StatusWord("◑", "stopping", "busy"),
    "done": StatusWord("✓", "done", "good", ended=True),
    "failed": StatusWord("✗", "failed", "bad", ended=True),
    "stopped": StatusWord("■", "stopped", "quiet", ended=True),
    "lost": StatusWord("⚑", "lost", "bad", ended=True),
}
WIDTH = max(len(status.word) for status in STATUSES.values()) + 2
"""Cells that the longest glyph and word take."""


def status_word(status: str) -> StatusWord:
    """The look of a status; one that this version does not know is shown as it is."""
    return STATUSES.get(status) or StatusWord("·", status, "quiet")
