"""Resuming on another number of processes: the effective batch stays, or the numbers that fit are named."""

import pytest

from dpo_tui.errors import UsageError
from dpo_tui.runs import start_run
from dpo_tui.runs.devices import DeviceRequest
from dpo_tui.runs.out_of_memory_retry import MicroBatch
from dpo_tui.runs.resource_change import ResourceChange, batch_on
from tests.support.supervised_runs import (  # noqa: F401 - a fixture
    begin,
    ended,
    events,
    fresh_home,
    worker,
    worker_environments,
)

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize(
    ("ranks", "before", "ranks_before", "after"),
    [
        (1, MicroBatch(2, 2), 2, MicroBatch(2, 4)),
        (2, MicroBatch(2, 4), 1, MicroBatch(2, 2)),
        (4, MicroBatch(1, 1), 8, MicroBatch(1, 2)),
        (3, MicroBatch(2, 3), 2, MicroBatch(2, 2)),
    ],
)
def test_the_effective_batch_stays(ranks: int, before: MicroBatch, ranks_before: int, after: MicroBatch) -> None:
    found = batch_on(ranks, before, ranks_before)
    assert found == after
    assert found.effective * ranks == before.effective * ranks_before


def test_a_number_that_does_not_divide_is_refused_with_those_that_do() -> None:
    with pytest.raises(UsageError, match="3 processes cannot share an effective batch of 8 in") as refused:
        batch_on(3, MicroBatch(2, 2), 2)
    assert refused.value.hint == "numbers of processes that fit: 1, 2, 4"


def test_a_change_survives_the_way_to_the_supervisor() -> None:
    change = ResourceChange(2, "torchrun", [], DeviceRequest(("gpu:0", "gpu:1"), 2, 7), 2, 3)
    assert ResourceChange.state_fields(change.to_json()) == {**vars(change)}


def test_a_resumed_run_has_its_new_resources_from_its_state_on() -> None:
    folder = begin("--exit", 3, devices=["gpu:0"])
    assert ended(folder).status == "failed"
    start_run.resume(folder, worker(folder), change=ResourceChange(1, "local", ["gpu:1"], None, 1, 16))
    state = ended(folder)
    assert (state.devices, state.ranks, state.launcher) == (["gpu:1"], 1, "local")
    assert (state.per_device_train_batch_size, state.gradient_accumulation_steps) == (1, 16)
    environment = worker_environments(folder)[-1]
    assert (environment["CUDA_VISIBLE_DEVICES"], environment["DPO_TUI_ACCUMULATION"]) == ("1", "16")
    assert events(folder, "resources")[0]["ranks"] == 1
