"""Which device a run gets, when its turn comes: real supervisors and workers, and the driver's library stood in for."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.cli.run_summary_text import run_lines
from dpo_tui.errors import RunError
from dpo_tui.runs import control_requests, run_lock, start_run, store
from dpo_tui.runs.devices import Device, DeviceRequest, Machine
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.queue import Wait, decide, scheduling_lock
from dpo_tui.runs.state import State
from dpo_tui.runs.status import status_of
from dpo_tui.runs.summary import summary
from tests.support.nvml_standin import SCENARIOS, compiler, machine
from tests.support.supervised_runs import (  # noqa: F401 - a fixture
    CONFIG,
    begin,
    edit_state,
    ended,
    events,
    fresh_home,
    go,
    has_status,
    holding,
    send,
    state_of,
    until,
    waits,
    worker,
    worker_environments,
)

pytestmark = pytest.mark.usefixtures("home")
needs_driver = pytest.mark.skipif(compiler() is None, reason="no C compiler here to build the stand-in driver library")
GPUS = ("gpu:0", "gpu:1", "gpu:2", "gpu:3")
PREPARE = (
    "import sys; from pathlib import Path\n"
    "from dpo_tui.config.files import load; from dpo_tui.start.prepare import create_run, prepare\n"
    "for path in sys.argv[1:]: print(create_run(prepare(load(Path(path)))).id)\n"
)


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path) -> Any:
    """Makes this process's children see the GPUs of a scenario."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def becomes(scenario: str, **extra: str) -> None:
        for key, value in machine(scenario, tmp_path, DPO_TUI_HOME=str(home), **extra).items():
            monkeypatch.setenv(key, value)

    return becomes


def prepared(folder: Path, model: Path, pairs: Path, *settings: str) -> RunFolder:
    """A run as `prepare` makes it in a process of its own, where the driver's library can be another."""
    path = folder / "config.toml"
    lines = [f'model_name = "{model}"', f'dataset = "{pairs}"', "use_4bit = false", *settings]
    path.write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-c", PREPARE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return store.find(done.stdout.split()[-1])


def start(folder: RunFolder, *options: str | int) -> RunFolder:
    start_run.start(folder, worker(folder, *options))
    return folder


def wanting(*candidates: str, hold: bool = True, **how: Any) -> RunFolder:
    """A started run that takes any of these devices."""
    after = how.pop("after", None)
    request = DeviceRequest(candidates, **how)
    folder = store.create(CONFIG, name="any", devices=[], device_request=request, after=after)
    return start(folder, *(("--hold-at", 1) if hold else ()))


def cuda(folder: RunFolder) -> str:
    return worker_environments(folder)[-1]["CUDA_VISIBLE_DEVICES"]


@needs_driver
def test_runs_prepared_one_after_the_other_on_idle_gpus_run_at_once_on_different_ones(
    box: Any, tmp_path: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    box("h100x4-idle")
    runs = [prepared(tmp_path, tiny_model, tiny_pairs) for _ in range(5)]
    assert all(state_of(run).devices == [] for run in runs), "nothing is chosen before the turn"
    assert all('gpus = "auto"' in run.config.read_text() for run in runs)
    for run in runs:
        start(run, "--hold-at", 1)
    first = runs[:4]
    for run in first:
        holding(run, 1)
    assert sorted(cuda(run) for run in first) == ["0", "1", "2", "3"]
    assert sorted(device for run in first for device in state_of(run).devices) == list(GPUS)
    fifth = runs[4]
    reason = waits(fifth, "any free GPU of 4", "in use by run", "and 3 more")
    assert re.search("|".join(run.id for run in first), reason)
    assert "on any free GPU of gpu:0, gpu:1, gpu:2, gpu:3" in "\n".join(run_lines(summary(fifth), 200))
    go(first[2])
    ended(first[2])
    holding(fifth, 1)
    assert state_of(fifth).devices == state_of(first[2]).devices
    assert events(fifth, "devices")[0]["devices"] == state_of(fifth).devices
    for run in runs:
        go(run)
    assert [ended(run).status for run in runs] == ["done"] * 5


@needs_driver
def test_a_number_stays_that_gpu_and_waits_for_it(box: Any, tmp_path: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    box("h100x4-idle")
    first = start(prepared(tmp_path, tiny_model, tiny_pairs, 'gpus = "2"'), "--hold-at", 1)
    holding(first, 1)
    second = prepared(tmp_path, tiny_model, tiny_pairs, 'gpus = "2"')
    assert (state_of(second).devices, state_of(second).device_request) == (["gpu:2"], None)
    start(second)
    waits(second, "gpu:2", first.id)
    go(first)
    assert ended(second).status == "done"
    assert (cuda(first), cuda(second)) == ("2", "2")


@needs_driver
@pytest.mark.parametrize("gpus", ["auto", "0"])
def test_a_mig_slice_that_the_person_chose_reaches_the_worker(
    gpus: str, box: Any, tmp_path: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    box("h100-mig-slices", CUDA_VISIBLE_DEVICES="MIG-half")
    run = start(prepared(tmp_path, tiny_model, tiny_pairs, f'gpus = "{gpus}"'))
    assert ended(run).devices == ["gpu:MIG-half"]
    assert cuda(run) == "MIG-half"


@needs_driver
def test_two_slices_of_one_card_are_two_devices(box: Any, tmp_path: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    box("h100-mig-slices")
    runs = [start(prepared(tmp_path, tiny_model, tiny_pairs), "--hold-at", 1) for _ in range(2)]
    for run in runs:
        holding(run, 1)
    assert sorted(map(cuda, runs)) == ["MIG-half", "MIG-small"]


@needs_driver
def test_a_slice_that_the_driver_hides_is_taken_at_the_persons_word(
    box: Any, tmp_path: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    box("h100-mig", CUDA_VISIBLE_DEVICES="MIG-unseen")
    run = start(prepared(tmp_path, tiny_model, tiny_pairs))
    ended(run)
    assert cuda(run) == "MIG-unseen"


@needs_driver
def test_a_gpu_named_by_uuid_keeps_that_name_and_is_the_card_of_its_number(
    box: Any, tmp_path: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    uuid = "GPU-00000001-0000-0000-0000-000000000000"
    box("h100x4-idle", CUDA_VISIBLE_DEVICES=uuid[:12])
    by_uuid = start(prepared(tmp_path, tiny_model, tiny_pairs), "--hold-at", 1)
    holding(by_uuid, 1)
    assert cuda(by_uuid) == uuid
    by_number = begin(devices=["gpu:1"])
    waits(by_number, "gpu:1", by_uuid.id)
    assert ended(begin(devices=["gpu:2"])).status == "done"
    go(by_uuid)
    assert ended(by_number).status == "done"


@needs_driver
def test_only_cards_that_can_run_the_same_plan_are_candidates(
    box: Any, tmp_path: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    box("unlike")
    request = state_of(prepared(tmp_path, tiny_model, tiny_pairs)).device_request
    assert request is not None
    assert request.candidates == ("gpu:1", "gpu:2"), "the first card has no bfloat16"
    assert request.memory
    large = ["max_seq_length = 32768", "per_device_train_batch_size = 64", "gradient_checkpointing = false"]
    state = state_of(prepared(tmp_path, tiny_model, tiny_pairs, *large))
    assert (state.devices, state.device_request) == (["gpu:1"], None), "more than the second card has"


@needs_driver
def test_a_gpu_that_others_fill_is_passed_over_while_a_run_holds_one_with_room(box: Any) -> None:
    box("others-hold-one")
    first, second = (wanting("gpu:0", "gpu:1", memory=10**10) for _ in range(2))
    holding(first, 1)
    assert cuda(first) == "1", "the one with the most free memory"
    waits(second, first.id, "others leave too little memory on gpu:0")
    go(first)
    holding(second, 1)
    assert cuda(second) == "1"


@needs_driver
def test_a_gpu_that_others_fill_is_taken_where_no_run_could_free_another(box: Any) -> None:
    box("others-hold-one")
    run = wanting("gpu:0", memory=10**10)
    holding(run, 1)
    assert cuda(run) == "0"


@needs_driver
def test_memory_that_others_free_is_noticed_though_no_run_ends(
    box: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box("others-hold-one")
    first, second = (wanting("gpu:0", "gpu:1", memory=10**10) for _ in range(2))
    waits(second, "others leave too little memory on gpu:0")
    description = tmp_path / "others-hold-one.txt"
    description.write_text(SCENARIOS["others-hold-one"].replace("2000", "81000"))
    holding(second, 1)
    assert (cuda(first), cuda(second)) == ("1", "0")


def test_a_driver_that_does_not_answer_keeps_no_run_from_starting() -> None:
    first, second = wanting("gpu:1", "gpu:0"), wanting("gpu:1", "gpu:0")
    for run in (first, second):
        holding(run, 1)
    assert (cuda(first), cuda(second)) == ("1", "0"), "in the request's order"


def test_runs_waiting_for_any_gpu_start_in_the_order_they_were_made() -> None:
    first = wanting("gpu:0", "gpu:1")
    second = wanting("gpu:0", "gpu:1")
    holding(first, 1)
    holding(second, 1)
    third, fourth = wanting("gpu:0", "gpu:1"), wanting("gpu:0", "gpu:1")
    waits(third, "in use by")
    waits(fourth, "in use by")
    go(second)
    holding(third, 1)
    assert status_of(fourth).status == "queued"
    go(third)
    holding(fourth, 1)
    assert state_of(fourth).devices == ["gpu:1"]
    go(first)
    go(fourth)


def test_a_run_that_needs_two_gpus_waits_for_two_and_is_not_passed_by_smaller_ones() -> None:
    holders = [wanting("gpu:0"), wanting("gpu:1")]
    for run in holders:
        holding(run, 1)
    both = wanting("gpu:0", "gpu:1", count=2)
    waits(both, "2 free GPUs of 2")
    small = wanting("gpu:0", "gpu:1")
    waits(small, "any free GPU")
    go(holders[0])
    ended(holders[0])
    until(lambda: "and 1 more" not in status_of(both).reason, "one holder has gone")
    waits(small, "any free GPU")
    go(holders[1])
    holding(both, 1)
    assert cuda(both) == "0,1"
    assert status_of(small).status == "queued"
    go(both)
    holding(small, 1)


def test_a_resumed_run_chooses_anew() -> None:
    first = wanting("gpu:0", "gpu:1")
    holding(first, 1)
    send(state_of(first).worker_pid, signal.SIGKILL)
    assert ended(first).status == "failed"
    assert state_of(first).devices == ["gpu:0"]
    others = [begin("--hold-at", 1, devices=[name]) for name in ("gpu:0", "gpu:1")]
    for other in others:
        holding(other, 1)
    start_run.resume(first, worker(first))
    waits(first, "any free GPU of 2")
    assert state_of(first).devices == [], "the earlier one is not its own any more"
    go(others[1])
    assert ended(first).devices == ["gpu:1"]
    go(others[0])


def test_a_retry_after_out_of_memory_stays_on_its_gpu() -> None:
    request = DeviceRequest(("gpu:0", "gpu:1"))
    folder = store.create(CONFIG, name="big", devices=[], device_request=request)
    start(folder, "--fits", 1)
    assert ended(folder).status == "done"
    assert {one["CUDA_VISIBLE_DEVICES"] for one in worker_environments(folder)} == {"0"}
    assert len(worker_environments(folder)) == 3


def test_a_run_that_waits_for_any_gpu_can_be_stopped() -> None:
    first = wanting("gpu:0")
    holding(first, 1)
    second = wanting("gpu:0")
    waits(second, "any free GPU of 1")
    control_requests.request_stop(second)
    state = ended(second)
    assert (state.status, state.attempt, state.devices) == ("stopped", 0, [])
    go(first)


def test_a_stop_is_honoured_while_another_process_has_the_scheduling_lock(home: Path) -> None:
    (home / "runs").mkdir(parents=True)
    code = (
        "import sys; from pathlib import Path; from dpo_tui.runs import run_lock as lock\n"
        "print(lock.acquire(Path(sys.argv[1])), flush=True); sys.stdin.read()"
    )
    keeper = subprocess.Popen(
        [sys.executable, "-c", code, str(home / "runs" / ".turn.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert keeper.stdout is not None and keeper.stdout.readline() == "True\n"
        folder = begin()
        assert status_of(folder).status == "queued"
        control_requests.request_stop(folder)
        state = ended(folder)
        assert (state.status, state.attempt) == ("stopped", 0)
    finally:
        keeper.kill()
        keeper.communicate()


def test_the_scheduling_lock_is_free_after_the_decision(home: Path) -> None:
    folder = store.create("", name="x", devices=[])
    path = folder.path.with_name(".turn.lock")
    with scheduling_lock(folder, lambda: True, time.sleep) as held:
        assert held and run_lock.owner(path) == os.getpid()
    assert run_lock.owner(path) is None


def test_a_state_of_before_requests_opens_and_means_what_it_meant() -> None:
    folder = store.create(CONFIG, name="old", devices=["gpu:3"])
    document = json.loads(folder.state.read_text())
    del document["device_request"]
    folder.state.write_text(json.dumps(document))
    assert (state_of(folder).devices, state_of(folder).device_request) == (["gpu:3"], None)
    start(folder)
    ended(folder)
    assert cuda(folder) == "3"


@pytest.mark.parametrize(
    "request_",
    [{"candidates": ["gpu:0"], "count": 2}, {"candidates": []}, {"count": 1}, [1], {"candidates": [1]}, "gpu:0"],
)
def test_a_damaged_request_makes_that_one_run_unreadable(request_: Any) -> None:
    damaged = store.create(CONFIG, name="damaged", devices=[])
    document = json.loads(damaged.state.read_text()) | {"device_request": request_}
    damaged.state.write_text(json.dumps(document))
    with pytest.raises(RunError, match="not a run's state"):
        state_of(damaged)
    other = wanting("gpu:0", hold=False)
    assert ended(other).status == "done"


def test_what_an_older_waiting_run_would_take_is_not_free_for_a_younger_one() -> None:
    machine_ = Machine(
        {name: Device(card, False, free) for card, (name, free) in enumerate(zip(GPUS, (5, 9, 7, 1), strict=True))}
    )
    holder = begin("--hold-at", 1, devices=["gpu:3"])
    holding(holder, 1)
    older = wanting("gpu:3", hold=False)
    waits(older, "any free GPU")
    state = State(id="99999999", name="", queued_at=time.time(), boot_id=state_of(older).boot_id)
    folder = RunFolder(older.path.with_name("99999999"))
    turn = decide(folder, State(**{**vars(state), "device_request": DeviceRequest(GPUS)}), machine_)
    assert not isinstance(turn, Wait) and turn.devices == ("gpu:1",), "the most free memory"
    edit_state(older, device_request=DeviceRequest(GPUS).to_document())
    turn = decide(folder, State(**{**vars(state), "device_request": DeviceRequest(GPUS)}), machine_)
    assert not isinstance(turn, Wait) and turn.devices == ("gpu:2",), "gpu:1 is the older run's"
    found = decide(folder, State(**{**vars(state), "devices": ["gpu:1"]}), machine_)
    assert isinstance(found, Wait) and "first in line" in found.reason
    send(state_of(older).supervisor_pid, signal.SIGKILL)
    has_status(older, "lost")
    go(holder)
