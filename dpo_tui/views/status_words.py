"""A run's status as glyph and word: never colour alone."""

from dataclasses import dataclass

from dpo_tui.runs.statuses import GLYPHS


@dataclass(frozen=True, slots=True)
class StatusWord:
    """How one status looks.

    Args:
        glyph: one cell, from the characters that terminal fonts have.
        word: what people read.
        role: the colour's role: ``good``, ``busy``, ``bad``, ``warn`` or ``quiet``.
    """

    glyph: str
    word: str
    role: str

    @property
    def text(self) -> str:
        """Glyph and word."""
        return f"{self.glyph} {self.word}"


STATUSES: dict[str, StatusWord] = {
    "queued": StatusWord(GLYPHS["queued"], "queued", "quiet"),
    "starting": StatusWord(GLYPHS["starting"], "starting", "busy"),
    "running": StatusWord(GLYPHS["running"], "training", "busy"),
    "stalled": StatusWord(GLYPHS["stalled"], "stalled", "warn"),
    "stopping": StatusWord(GLYPHS["stopping"], "stopping", "busy"),
    "done": StatusWord(GLYPHS["done"], "done", "good"),
    "failed": StatusWord(GLYPHS["failed"], "failed", "bad"),
    "stopped": StatusWord(GLYPHS["stopped"], "stopped", "quiet"),
    "lost": StatusWord(GLYPHS["lost"], "lost", "bad"),
}
WIDTH = max(len(status.word) for status in STATUSES.values()) + 2
"""Cells that the longest glyph and word take."""


def status_word(status: str) -> StatusWord:
    """The look of a status; one that this version does not know is shown as it is."""
    return STATUSES.get(status) or StatusWord("·", status, "quiet")
