"""Fixtures that every part of the tests may use."""

import os
from pathlib import Path

import pytest

from tests import tiny

# Before torch is imported: see runs/worker.py.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# The tests start hundreds of processes; each would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of the test's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("DPO_TUI_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that trains in seconds."""
    return tiny.make_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="session")
def tiny_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty preference pairs."""
    return tiny.make_pairs(tmp_path_factory.mktemp("tiny-pairs") / "pairs.jsonl")
