"""The drawing of a run's curves is an XML document, whatever the run is called."""

from xml.etree import ElementTree

import pytest

from dpo_tui.runs.curves_svg import curves_svg


@pytest.mark.parametrize("name", ["a\x00b\x1b[31m\x9b", "a\ud800\uffff", "<&>\x0b\x85"])
def test_a_name_with_control_characters_gives_valid_xml(name: str) -> None:
    document = curves_svg([{"step": 1, "loss": 0.7}, {"step": 2, "loss": 0.6}], name)
    title = ElementTree.fromstring(document.encode()).findtext("{http://www.w3.org/2000/svg}text")  # noqa: S314
    assert title is not None and title.replace("\ufffd", "").isprintable()
