"""JSON for people and programs: the same document, and nothing in it that a terminal obeys."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpo_tui.cli.follow import _progress_text
from dpo_tui.cli.output import escape_controls
from dpo_tui.runs.status import Status


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=50)
@given(st.dictionaries(st.text(), st.text() | st.floats(allow_nan=False) | st.none()))
def test_escaped_json_is_the_same_document(document: dict[str, object]) -> None:
    text = escape_controls(json.dumps(document, ensure_ascii=False, indent=2))
    assert json.loads(text) == document
    assert not any(127 <= ord(sign) < 160 for sign in text)


def test_controls_and_invisible_characters_are_escaped() -> None:
    text = escape_controls(json.dumps("\x9b31m \x7f \u202e \u200b \ufeff \U000e0041 é", ensure_ascii=False))
    assert text == r'"\u009b31m \u007f \u202e \u200b \ufeff \udb40\udc41 é"'


def test_the_phase_of_a_run_is_shown_without_controls() -> None:
    progress = {"phase": "load\x1b[31m\x9b", "done": 1, "total": 2, "unit": "b\x9b"}
    shown = _progress_text(Status("running", progress=progress))
    assert shown == "load\ufffd 1/2 b\ufffd"
