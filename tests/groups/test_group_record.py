"""The driver's record of a group copes with a disk that takes nothing, its own log included."""

import errno
import sys
from pathlib import Path

import pytest

from dpo_tui.groups import group_record
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_record import GroupRecord
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
    written: list[GroupState] = []
    record = GroupRecord(GroupFolder(tmp_path), GroupState())

    def refuse(folder: GroupFolder, state: GroupState) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(group_record, "write_group_state", refuse)
    monkeypatch.setattr(sys, "stderr", FullDisk())
    record.update(status="running")
    assert not record.flush()
    monkeypatch.setattr(group_record, "write_group_state", lambda folder, state: written.append(state))
    assert record.flush()
    assert [state.status for state in written] == ["running"]
