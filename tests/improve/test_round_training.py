"""The training of a round waits for its group, whose driver is started again as often as somebody may kill it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dpo_tui.errors import RunError
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.improve.rounds import round_training


@pytest.fixture
def resumed(monkeypatch: pytest.MonkeyPatch) -> list[GroupFolder]:
    """The groups that were resumed, in order; nothing is started."""
    found: list[GroupFolder] = []
    monkeypatch.setattr(round_training, "resume_group", found.append)
    monkeypatch.setattr(round_training, "_POLL", 0.0)
    return found


def _wait(monkeypatch: pytest.MonkeyPatch, statuses: list[str]) -> Any:
    left = iter(statuses)

    def status(folder: GroupFolder) -> Any:
        name = next(left)
        return SimpleNamespace(status=name, reason="killed", over=name in ("lost", "done"), members=())

    monkeypatch.setattr(round_training, "group_status", status)
    work: Any = SimpleNamespace(progress=lambda step, done, total: None)
    return round_training._wait(work, GroupFolder(Path("20260101-000000-abcd")), "round 1: training")


def test_a_driver_that_was_killed_is_started_again(monkeypatch: pytest.MonkeyPatch, resumed: list[GroupFolder]) -> None:
    assert _wait(monkeypatch, ["running", "lost", "running", "lost", "done"]).status == "done"
    assert len(resumed) == 2


def test_a_driver_that_ends_each_time_is_not_started_for_ever(
    monkeypatch: pytest.MonkeyPatch, resumed: list[GroupFolder]
) -> None:
    with pytest.raises(RunError, match="its driver ended 11 times: killed"):
        _wait(monkeypatch, ["lost"] * 100)
    assert len(resumed) == 10
