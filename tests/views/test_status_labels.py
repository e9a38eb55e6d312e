"""The labels of the statuses."""

from dpo_tui.runs.status_names import GLYPHS
from dpo_tui.themes.glyphs import in_ascii
from dpo_tui.views.status_labels import STATUS_LABELS, status_label


def test_every_status_of_the_contract_has_a_glyph_a_word_and_an_ascii_twin_of_its_own():
    """State is never colour alone."""
    named = {"queued", "starting", "running", "stalled", "stopping", "done", "failed", "stopped", "lost"}
    assert set(STATUS_LABELS) == named
    glyphs = {status.glyph for status in STATUS_LABELS.values()}
    assert len(glyphs) == len({in_ascii(glyph) for glyph in glyphs}) == len(named)
    assert all(status.text == f"{status.glyph} {status.word}" for status in STATUS_LABELS.values())
    assert {status: look.glyph for status, look in STATUS_LABELS.items()} == GLYPHS
    assert status_label("novel").word == "novel"
