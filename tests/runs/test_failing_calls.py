"""Every system call of a run made to fail in turn, and every crash between two of them. Real processes.

What must hold then stands in `tests/support/failing_calls/one_case.py` and ``image_checks.py``.
"""

import shutil
import sys
from pathlib import Path

import pytest

from tests.support.failing_calls.image_checks import ImageCheck
from tests.support.failing_calls.sweep import PLANS, Sweep, calls_to_fail, some_cases

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not shutil.which("gcc"), reason="a library is built and preloaded"
)

_SHORT_CASES = 12


@pytest.fixture(name="sweep")
def fresh_sweep(tmp_path: Path) -> Sweep:
    """A sweep in the test's own folder."""
    return Sweep(tmp_path / "cases")


def test_some_calls_of_a_run_fail_and_some_crashes_are_opened(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, below = sweep.calls("train")
    cases = list(some_cases(calls, "train"))
    # A stride that has no part in common with the number of ways: all roles and modes come up.
    results = sweep.results(cases[5 :: len(cases) // _SHORT_CASES])
    assert [one for one in results if one.violations] == []
    assert all(one.failed for one in results) and len(results) >= _SHORT_CASES
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path))
    images = ImageCheck(calls, below, tmp_path / "images")
    images.check(every=1, resume_every=200)
    assert images.violations == []
    assert images.opened > len(calls) and images.resumed


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
def test_every_call_of_a_run_fails_once_and_for_good(sweep: Sweep, plan: str) -> None:
    calls, _ = sweep.calls(plan)
    cases = list(some_cases(calls, plan))
    results = sweep.results(cases)
    assert [one for one in results if one.violations] == []
    assert len(results) == len(cases) and all(one.failed for one in results)
    last = {call.role: call.number for call in calls_to_fail(calls, plan)}
    assert last.keys() == {"command", "supervisor", "worker"}


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
def test_every_crash_between_two_calls_is_opened(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: str
) -> None:
    calls, below = sweep.calls(plan)
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path))
    images = ImageCheck(calls, below, tmp_path / "images")
    images.check(every=1, resume_every=4)
    assert images.violations == []
    assert images.opened > len(calls) and images.resumed > len(calls) // 8
