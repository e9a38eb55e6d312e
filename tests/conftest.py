"""Fixtures that every part of the tests may use."""

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import tiny
from tests.support.tools_in_process import call_tools_in_process

# Before torch is imported: see runs/launchers/environment.py.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# The tests start hundreds of processes; each would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collectstart() -> None:
    """Collect no garbage while test modules are imported: what they import stays."""
    gc.disable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave what was imported out of all later collections: Trainer collects several times in each training."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of the test's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("DPO_TUI_HOME", str(folder))
    return folder


@pytest.fixture
def tools_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools of the torch stack are called here instead of started as children."""
    call_tools_in_process(monkeypatch)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that trains in seconds."""
    return tiny.make_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="session")
def tiny_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty preference pairs."""
    return tiny.make_pairs(tmp_path_factory.mktemp("tiny-pairs") / "pairs.jsonl")


@pytest.fixture
def snap_compare(snap_compare: Callable[..., bool]) -> Callable[..., bool]:
    """Take the picture when nothing has changed for half a second: a busy machine draws a screen piece by piece."""

    def compare(app: Any, *, terminal_size: tuple[int, int], run_before: Callable[[Any], Any]) -> bool:
        async def settled(pilot: Any) -> None:
            await run_before(pilot)
            seen, since = "", time.monotonic()
            while time.monotonic() - since < 0.5:
                await pilot.pause(0.05)
                if (picture := pilot.app.export_screenshot()) != seen:
                    seen, since = picture, time.monotonic()

        return snap_compare(app, terminal_size=terminal_size, run_before=settled)

    return compare
