"""The driver's record of a group copes with a disk that takes nothing, its own log included."""

import errno
import sys
from pathlib import Path

import pytest

from dpo_tui.groups import driver_record
from dpo_tui.groups.driver_record import DriverRecord
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_state import GroupState


class FullDisk:
    """A standard error that lies on the full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_takes_no_word_of_the_driver_keeps_the_state_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[dict[str, object]] = []
    record = DriverRecord(GroupFolder(tmp_path), GroupState())

    def refuse(path: Path, obj: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(driver_record, "write_json_atomic", refuse)
    monkeypatch.setattr(sys, "stderr", FullDisk())
    record.update(status="running")
    assert not record.flush()
    monkeypatch.setattr(driver_record, "write_json_atomic", lambda path, obj: written.append(obj))
    assert record.flush()
    assert [state["status"] for state in written] == ["running"]
