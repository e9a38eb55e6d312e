"""How each status of a run is shown: a glyph and a word, so that it does not depend on colour."""

from dataclasses import dataclass

from dpo_tui.runs.status_names import GLYPHS


@dataclass(frozen=True, slots=True)
class StatusLabel:
    """How one status is shown.

    Args:
        glyph: one cell wide; terminal fonts have it.
        word: the status as text.
        role: the role of its colour: ``good``, ``busy``, ``bad``, ``warn`` or ``quiet``.
    """

    glyph: str
    word: str
    role: str

    @property
    def text(self) -> str:
        """Glyph and word together."""
        return f"{self.glyph} {self.word}"


STATUS_LABELS: dict[str, StatusLabel] = {
    "queued": StatusLabel(GLYPHS["queued"], "queued", "quiet"),
    "starting": StatusLabel(GLYPHS["starting"], "starting", "busy"),
    "running": StatusLabel(GLYPHS["running"], "training", "busy"),
    "stalled": StatusLabel(GLYPHS["stalled"], "stalled", "warn"),
    "stopping": StatusLabel(GLYPHS["stopping"], "stopping", "busy"),
    "done": StatusLabel(GLYPHS["done"], "done", "good"),
    "failed": StatusLabel(GLYPHS["failed"], "failed", "bad"),
    "stopped": StatusLabel(GLYPHS["stopped"], "stopped", "quiet"),
    "lost": StatusLabel(GLYPHS["lost"], "lost", "bad"),
}
_WORKING = {"working": StatusLabel(GLYPHS["running"], "working", "busy")}
"""An improvement that runs: it samples and judges as well as trains."""
LABEL_WIDTH = max(len(status.word) for status in STATUS_LABELS.values()) + 2
"""Cells of the longest label."""


def status_label(status: str) -> StatusLabel:
    """The label of a status; one that this version does not know is shown as it is."""
    return (STATUS_LABELS | _WORKING).get(status) or StatusLabel("·", status, "quiet")
