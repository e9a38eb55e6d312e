"""What dpo-tui keeps is its user's alone."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo_tui.runs import control_requests
from tests.support.supervised_runs import begin, ended, fresh_home  # noqa: F401 - a fixture


@pytest.fixture
def open_umask() -> Iterator[None]:
    """Every file and folder is made open to all."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_everything_below_the_home_is_private_under_any_umask(home: Path) -> None:
    folder = begin("--steps", 3)
    control_requests.accept_changed_data(folder)
    ended(folder)
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in (home, *home.rglob("*"))}
    assert len(found) > 5
    too_open = {str(path): oct(mode) for path, mode in found.items() if mode & 0o077}
    assert not too_open
