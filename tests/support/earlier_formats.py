"""Homes that earlier versions wrote (`tests/formats`, made by `scripts/record_format.py`), unpacked for a test."""

import shutil
from pathlib import Path

import pytest

from tests.support.repository import ROOT

FORMATS = ROOT / "tests" / "formats"
NAMES = sorted(path.parent.name for path in FORMATS.glob("*/made_by.json"))
_PLACE = "/tmp/dpo-tui-formats"  # noqa: S108 - as it stands in the files
"""Where the model, the data and the home were when the files were written."""


def unpack(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a home of an earlier version in a new folder, with its model and data, and return it.

    Paths in its files are changed to the folder, apart from those in checkpoints, which have checksums.
    """
    folder.mkdir()
    for part in ("model", "pairs.jsonl"):
        source = FORMATS / part
        shutil.copytree(source, folder / part) if source.is_dir() else shutil.copy(source, folder / part)
    home = folder / "home"
    shutil.copytree(FORMATS / name / "home", home)
    for path in home.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".toml", ".md") and "checkpoints" not in path.parts:
            path.write_text(path.read_text(encoding="utf-8").replace(_PLACE, str(folder)), encoding="utf-8")
    monkeypatch.setenv("DPO_TUI_HOME", str(home))
    return home
