"""docs/tour.md is what scripts/pictures.py makes, and its pictures are there."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.app import ended_run
from tests.support.repository import ROOT

LARGEST = 250_000
"""Bytes of a picture."""


@pytest.fixture(name="pictures", scope="module")
def pictures_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "scripts" / "pictures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pictures"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_page_is_the_scripts(pictures: ModuleType) -> None:
    assert (ROOT / "docs" / "tour.md").read_text(encoding="utf-8") == pictures.tour_page()


def test_every_picture_is_there_small_and_self_contained(pictures: ModuleType) -> None:
    named = set(re.findall(r'"(pictures/tour/[^"]+)"', pictures.tour_page()))
    assert {f"pictures/tour/{file.name}" for file in (ROOT / "docs/pictures/tour").iterdir()} == named
    assert {size for stop in pictures.TOUR for size in stop.sizes} == {(80, 24), (200, 50)}
    for name in named:
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert text.startswith("<svg") and len(text.encode()) < LARGEST, name
        assert text.count("<text ") > 20, f"{name} shows nothing"
        assert "@font-face" not in text and "url(http" not in text, name


async def test_a_stop_is_taken_from_the_real_app(pictures: ModuleType, home: Path, tmp_path: Path) -> None:
    ended_run(home, "20261101-101010-aaaa", "helpful", steps=5)
    await pictures.take(tmp_path / "runs.svg", (), (80, 24), "light")
    assert "helpful" in (tmp_path / "runs.svg").read_text(encoding="utf-8")
