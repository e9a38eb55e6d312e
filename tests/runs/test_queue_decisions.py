"""Who waits for whom, decided from staged files and locks: no process runs, and this one holds the locks."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.runs import run_lock
from dpo_tui.runs.devices import Device, DeviceRequest, Machine
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.process import boot_id, process_start
from dpo_tui.runs.queue import Allocation, Wait, decide, devices_in_use, needs_machine, still_waits
from dpo_tui.runs.state import State, write_state

GB = 10**9
NOBODY = Machine()
Stage = Callable[..., RunFolder]
MINE = "20260101-000000-5000"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Write a run with this number in its id; with ``alive`` its lock is held, as by its supervisor."""
    held: list[Path] = []

    def write(number: int, status: str = "running", *, alive: bool = True, **fields: Any) -> RunFolder:
        folder = RunFolder(tmp_path / f"20260101-000000-{number:04x}")
        folder.path.mkdir(exist_ok=True)
        values: dict[str, Any] = {"attempt": 1, "boot_id": boot_id(), "queued_at": float(number), "name": ""} | fields
        write_state(folder, State(id=folder.id, status=status, **values))  # type: ignore[arg-type]
        if alive and folder.lock not in held:
            assert run_lock.acquire(folder.lock)
            held.append(folder.lock)
        return folder

    yield write
    for path in held:
        run_lock.release(path)


def mine(tmp_path: Path, *devices: str, request: DeviceRequest | None = None, **fields: Any) -> tuple[RunFolder, State]:
    """The run that decides: queued after all that have a smaller number than 0x5000."""
    values: dict[str, Any] = {"queued_at": float(0x5000), "boot_id": boot_id()} | fields
    return RunFolder(tmp_path / MINE), State(MINE, "", devices=list(devices), device_request=request, **values)


def outcome(run: tuple[RunFolder, State], machine: Machine = NOBODY) -> tuple[str, ...] | str:
    """The devices that it gets, or why it waits."""
    found = decide(*run, machine)
    return found.devices if isinstance(found, Allocation) else found.reason


def cards(*free: int) -> Machine:
    return Machine({f"gpu:{card}": Device(card, False, gigabytes * GB) for card, gigabytes in enumerate(free)})


def test_a_device_that_a_live_run_holds_is_waited_for_by_name(stage: Stage, tmp_path: Path) -> None:
    holder = stage(1, devices=["gpu:0", "gpu:1"], name="helpful")
    wanted = "waits for gpu:0, in use by run 20260101-000000-0001 (helpful)"
    assert outcome(mine(tmp_path, "gpu:0")) == wanted
    assert outcome(mine(tmp_path, "gpu:2")) == ("gpu:2",)
    assert outcome(mine(tmp_path)) == (), "a run that needs none waits for nobody"
    assert devices_in_use(tmp_path) == {"gpu:0": holder, "gpu:1": holder}


@pytest.mark.parametrize("status", ["starting", "stopping", "done", "failed", "lost"])
def test_whatever_its_status_a_run_with_a_supervisor_holds_its_devices(
    stage: Stage, tmp_path: Path, status: str
) -> None:
    """An ended one is ending leftover processes, which may hold the memory."""
    stage(1, status, devices=["gpu:0"])
    assert "in use by" in outcome(mine(tmp_path, "gpu:0"))


def test_the_worker_of_a_killed_supervisor_holds_its_devices_until_it_ends(stage: Stage, tmp_path: Path) -> None:
    here = os.getpid()
    stage(1, devices=["gpu:0"], alive=False, worker_pid=here, worker_start=process_start(here))
    assert "in use by" in outcome(mine(tmp_path, "gpu:0"))
    stage(1, devices=["gpu:0"], alive=False, worker_pid=here, worker_start=1)
    assert outcome(mine(tmp_path, "gpu:0")) == ("gpu:0",), "another process has its pid by now"


def test_runs_without_supervisor_of_other_machines_or_of_newer_versions_are_not_waited_for(
    stage: Stage, tmp_path: Path
) -> None:
    stage(1, devices=["gpu:0"], alive=False)
    stage(2, "queued", devices=["gpu:0"], alive=False)
    stage(3, devices=["gpu:0"], boot_id="0" * 36)
    (stage(4, devices=["gpu:0"]).state).write_text('{"version": 99}')
    (stage(5, devices=["gpu:0"]).state).write_text("torn")
    assert outcome(mine(tmp_path, "gpu:0")) == ("gpu:0",)
    assert devices_in_use(tmp_path) == {}


def test_those_that_were_queued_before_come_first_and_at_the_same_moment_the_smaller_id(
    stage: Stage, tmp_path: Path
) -> None:
    stage(0x6000, "queued", devices=["gpu:0"])
    assert outcome(mine(tmp_path, "gpu:0")) == ("gpu:0",), "that one came later"
    stage(0x6000, "queued", devices=["gpu:0"], queued_at=float(0x5000))
    assert outcome(mine(tmp_path, "gpu:0")) == ("gpu:0",), "at the same moment, with a larger id"
    stage(0x4000, "queued", devices=["gpu:0"], queued_at=float(0x5000))
    first = "waits for gpu:0: run 20260101-000000-4000 is first in line"
    assert outcome(mine(tmp_path, "gpu:0")) == first
    assert devices_in_use(tmp_path) == {}, "waiting holds nothing"


def test_a_run_that_waits_for_another_run_is_overtaken_until_that_is_over(stage: Stage, tmp_path: Path) -> None:
    earlier = stage(1, devices=["gpu:7"])
    stage(2, "queued", devices=["gpu:0"], after=earlier.id)
    assert outcome(mine(tmp_path, "gpu:0")) == ("gpu:0",)
    run_lock.release(earlier.lock)
    stage(1, "done", alive=False)
    assert "first in line" in outcome(mine(tmp_path, "gpu:0"))


def test_the_run_that_comes_before_is_waited_for_whatever_its_devices(stage: Stage, tmp_path: Path) -> None:
    earlier = stage(1, name="sft")
    run = mine(tmp_path, after=earlier.id)
    waiting = decide(*run, NOBODY)
    assert isinstance(waiting, Wait) and waiting.reason == f"waits for run {earlier.id} (sft) to end"
    assert not waiting.memory, "the driver need not be asked again"
    assert still_waits(waiting, *run)
    for gone in ("done", "failed", "stopped"):
        stage(1, gone)
        assert outcome(run) == (), gone
        assert not still_waits(waiting, *run)
    assert outcome(mine(tmp_path, after="20260101-000000-9999")) == (), "removed"
    assert outcome(mine(tmp_path, after=MINE)) == (), "not for itself"


ANY = DeviceRequest(("gpu:0", "gpu:1", "gpu:2"), memory=10 * GB)


def test_a_request_takes_the_free_device_with_the_most_memory(stage: Stage, tmp_path: Path) -> None:
    stage(1, devices=["gpu:1"])
    assert outcome(mine(tmp_path, request=ANY), cards(20, 80, 40)) == ("gpu:2",)
    assert outcome(mine(tmp_path, request=DeviceRequest(ANY.candidates, 2)), cards(20, 80, 40)) == ("gpu:2", "gpu:0")
    assert outcome(mine(tmp_path, request=ANY)) == ("gpu:0",), "without the driver's word in the request's order"


def test_a_request_says_who_is_in_the_way_and_how_many(stage: Stage, tmp_path: Path) -> None:
    stage(1, devices=["gpu:0"])
    stage(2, devices=["gpu:1"])
    newest = stage(3, devices=["gpu:2"], name="new")
    run = mine(tmp_path, request=ANY)
    found = decide(*run, cards(80, 80, 80))
    assert isinstance(found, Wait) and not found.memory
    assert found.run == newest
    assert found.reason == f"waits for any free GPU of 3, in use by run {newest.id} (new) and 2 more"
    assert still_waits(found, *run)
    stage(1, devices=["gpu:0"], alive=False, status="stopping")
    assert still_waits(found, *run), "it holds its device as before"
    run_lock.release(RunFolder(tmp_path / "20260101-000000-0001").lock)
    assert not still_waits(found, *run)
    assert outcome(run, cards(80, 80, 80)) == ("gpu:0",)


def test_runs_that_are_first_in_line_are_said_to_be_so(stage: Stage, tmp_path: Path) -> None:
    two = DeviceRequest(("gpu:0", "gpu:1"), 2)
    stage(1, "queued", device_request=two)
    assert outcome(mine(tmp_path, request=two)) == (
        "waits for 2 free GPUs of 2: run 20260101-000000-0001 is first in line"
    )
    stage(2, "queued", device_request=DeviceRequest(("gpu:0",)))
    assert outcome(mine(tmp_path, request=DeviceRequest(("gpu:0",)))).endswith("0001 is first in line"), "the other not"


def test_what_earlier_runs_in_the_queue_would_take_is_not_free(stage: Stage, tmp_path: Path) -> None:
    stage(2, "queued", device_request=ANY)
    stage(1, "queued", device_request=ANY)
    assert outcome(mine(tmp_path, request=ANY), cards(20, 80, 40)) == ("gpu:0",), "the two with more are theirs"
    assert outcome(mine(tmp_path, "gpu:0"), cards(20, 80, 40)) == ("gpu:0",)
    assert "first in line" in outcome(mine(tmp_path, "gpu:1"), cards(20, 80, 40))
    stage(1, "queued", device_request=DeviceRequest(ANY.candidates, 3))
    stage(2, "running", devices=["gpu:1"])
    reserved = outcome(mine(tmp_path, request=ANY), cards(20, 80, 40))
    assert "in use by" in reserved, "one that needs three keeps the free ones, or smaller runs would starve it"


def test_a_device_that_other_programs_fill_is_passed_over_while_a_run_holds_another(
    stage: Stage, tmp_path: Path
) -> None:
    two = DeviceRequest(("gpu:0", "gpu:1"), memory=10 * GB)
    run = mine(tmp_path, request=two)
    assert outcome(run, cards(9, 8)) == ("gpu:0",), "no run will free one: the best there is"
    assert outcome(run, cards(9, 10)) == ("gpu:1",)
    stage(1, devices=["gpu:1"])
    found = decide(*run, cards(9, 80))
    assert isinstance(found, Wait) and found.memory
    assert found.reason.endswith("in use by run 20260101-000000-0001; others leave too little memory on gpu:0")


def test_the_driver_is_asked_only_where_names_do_not_tell(stage: Stage, tmp_path: Path) -> None:
    assert not needs_machine(*mine(tmp_path))
    assert not needs_machine(*mine(tmp_path, "gpu:0"))
    assert needs_machine(*mine(tmp_path, "gpu:GPU-1"))
    assert needs_machine(*mine(tmp_path, request=ANY))
    stage(1, devices=["gpu:GPU-2"])
    assert needs_machine(*mine(tmp_path, "gpu:0")), "that may be the same card"
    assert not needs_machine(*mine(tmp_path))


def test_a_card_by_its_number_and_by_its_uuid_is_one(stage: Stage, tmp_path: Path) -> None:
    stage(1, devices=["gpu:GPU-a"])
    machine = Machine({"gpu:0": Device(0, False, GB), "gpu:GPU-a": Device(0, False, GB), "gpu:1": Device(1, False, GB)})
    assert "waits for gpu:0" in outcome(mine(tmp_path, "gpu:0"), machine)
    assert outcome(mine(tmp_path, "gpu:1"), machine) == ("gpu:1",)
    assert outcome(mine(tmp_path, request=DeviceRequest(("gpu:0", "gpu:1"))), machine) == ("gpu:1",)
