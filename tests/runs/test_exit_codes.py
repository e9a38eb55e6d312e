"""Kills by the kernel's out-of-memory killer are counted where the kernel writes them, for either cgroup version."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dpo_tui.runs import exit_codes
from dpo_tui.runs.exit_codes import OutOfMemoryKills

Staged = Callable[..., None]


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Staged:
    """Files of /proc and /sys as a test writes them; those that it does not write are not there."""

    def path(*parts: str) -> Path:
        return tmp_path.joinpath(*(part.lstrip("/") for part in parts))

    def write(files: dict[str, str]) -> None:
        for name, text in files.items():
            path(name).parent.mkdir(parents=True, exist_ok=True)
            path(name).write_text(text)

    monkeypatch.setattr(exit_codes, "Path", path)
    return write


MACHINE = {"/proc/vmstat": "nr_free_pages 9\noom_kill 3\noom_kill_x 50\n"}


@pytest.mark.parametrize(
    ("files", "group"),
    [
        ({}, None),
        ({"/proc/self/cgroup": "0::/user/x\n", "/sys/fs/cgroup/user/x/memory.events": "oom 9\noom_kill 2\n"}, 2),
        (
            {
                "/proc/self/cgroup": "7:cpu,cpuacct:/a\n4:hugetlb,memory:/docker/b\n",
                "/sys/fs/cgroup/memory/docker/b/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n",
                "/sys/fs/cgroup/memory/a/memory.oom_control": "oom_kill 100\n",
            },
            7,
        ),
        ({"/proc/self/cgroup": "0::/gone\n"}, None),
    ],
    ids=["no cgroup", "version 2", "version 1", "unreadable"],
)
def test_kills_in_the_own_group_are_counted_apart_from_those_of_the_machine(
    kernel: Staged, files: dict[str, str], group: int | None
) -> None:
    kernel(MACHINE | files)
    assert exit_codes.kernel_oom_kills() == OutOfMemoryKills(group, 3)


@pytest.mark.parametrize("text", [None, "", "oom_kill many\n", "oom 5\n"])
def test_where_the_kernel_counts_nothing_the_number_is_not_known(kernel: Staged, text: str | None) -> None:
    kernel({} if text is None else {"/proc/vmstat": text})
    assert exit_codes.kernel_oom_kills() == OutOfMemoryKills(None, None)


@pytest.mark.parametrize(
    ("before", "after", "ended_here"),
    [
        ((2, 5), (3, 6), True),
        ((2, 5), (2, 9), None),
        ((2, 5), (2, 5), False),
        ((2, None), (2, None), None),
        ((None, 5), (None, 6), None),
        ((None, 5), (None, 5), False),
        ((None, None), (None, None), None),
        ((2, 5), (None, 6), None),
    ],
    ids=[
        *("here", "in another group, which may be the worker's own", "in no group", "only here counted"),
        *("somewhere", "nowhere", "not counted", "not counted any more"),
    ],
)
def test_a_kill_elsewhere_on_the_box_is_no_reason_of_an_end_here(
    before: tuple[int | None, int | None], after: tuple[int | None, int | None], ended_here: bool | None
) -> None:
    assert OutOfMemoryKills(*after).since(OutOfMemoryKills(*before)) is ended_here
