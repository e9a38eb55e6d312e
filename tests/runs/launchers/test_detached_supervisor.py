"""A supervisor counts as started when it has taken the run, so that what is asked of it next is not lost."""

import sys

import pytest

from dpo_tui.runs.launchers.detached_supervisor import start_detached_supervisor
from tests.support.supervised_runs import fresh_home, make, state_of  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("home")

SLOW_TO_RECORD = """
import os, sys, time
from dataclasses import replace
from pathlib import Path
from dpo_tui.runs import run_lock
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.state import read_state, write_state
folder = RunFolder(Path(sys.argv[1]))
assert run_lock.acquire(folder.lock)
time.sleep(0.5)
write_state(folder, replace(read_state(folder), supervisor_pid=os.getpid()))
time.sleep(1)
"""


def test_it_has_recorded_itself_when_the_start_returns() -> None:
    folder = make()
    start_detached_supervisor(folder, [sys.executable, "-c", SLOW_TO_RECORD, str(folder.path)])
    assert state_of(folder).supervisor_pid is not None
