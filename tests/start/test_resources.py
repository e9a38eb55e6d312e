"""Where a run trains, as the user asks for it: refused before a run is made, and changed by a resume."""

from pathlib import Path
from typing import Any

import pytest

from dpo_tui.cli.estimate_result import estimate_run
from dpo_tui.errors import ConfigError, UsageError
from dpo_tui.hardware import nvml
from dpo_tui.hardware.nvml import Inventory
from dpo_tui.runs import store
from dpo_tui.start.prepare import create_run, prepare
from dpo_tui.start.resources import resource_change
from tests.support.doctor_facts import gpu
from tests.support.supervised_runs import edit_state, state_of
from tests.support.training import loaded


@pytest.fixture(autouse=True)
def four_gpus(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(nvml, "read", lambda: Inventory(tuple(gpu(index=index) for index in range(4))))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gpus": [0, 5]}, "there is no GPU 5; the driver lists 0, 1, 2, 3"),
        ({"gpus": "auto", "gpu_count": 6}, "gpu_count = 6: 4 can be used here"),
        ({"gpus": "all", "gpu_count": 3}, "gpu_count = 3: there are 4"),
    ],
)
def test_what_cannot_be_had_is_refused_alike_before_a_run_and_in_an_estimate(
    changes: dict[str, Any], said: str, tiny_model: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    config = loaded(tmp_path, tiny_model, tiny_pairs, **changes)
    with pytest.raises(ConfigError, match=said) as refused:
        prepare(config)
    assert refused.value.exit_code == 2 and store.all_runs() == []
    with pytest.raises(ConfigError, match=said):
        estimate_run(config, None)
    assert estimate_run(config, 24.0).free == 24 * 10**9, "of a GPU elsewhere nothing is known"


def test_a_run_on_several_gpus_waits_for_them_and_is_started_by_torchrun(
    tiny_model: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    every = state_of(create_run(prepare(loaded(tmp_path, tiny_model, tiny_pairs, gpus="all"))))
    assert (every.ranks, every.launcher) == (4, "torchrun")
    assert every.devices == ["gpu:0", "gpu:1", "gpu:2", "gpu:3"]
    two = state_of(create_run(prepare(loaded(tmp_path, tiny_model, tiny_pairs, gpus="auto", gpu_count=2))))
    assert (two.ranks, two.launcher, two.devices) == (2, "torchrun", [])
    assert two.device_request is not None and two.device_request.count == 2
    one = state_of(create_run(prepare(loaded(tmp_path, tiny_model, tiny_pairs, gpus="auto"))))
    assert (one.ranks, one.launcher) == (1, "local"), "auto takes one by itself"


def test_a_resume_moves_a_run_to_other_gpus_and_keeps_its_effective_batch(
    tiny_model: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    batch = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    folder = create_run(prepare(loaded(tmp_path, tiny_model, tiny_pairs, gpus=[0, 1], **batch)))
    assert resource_change(folder, {}) is None
    one = resource_change(folder, {"gpus": "3"})
    assert one is not None
    assert (one.ranks, one.launcher, one.devices, one.device_request) == (1, "local", ["gpu:3"], None)
    assert (one.per_device_train_batch_size, one.gradient_accumulation_steps) == (2, 8)
    four = resource_change(folder, {"gpus": "auto", "gpu_count": 4})
    assert four is not None and (four.ranks, four.gradient_accumulation_steps) == (4, 2)
    three = resource_change(folder, {"gpus": "none", "ranks": 8})
    assert three is not None and (three.ranks, three.devices, three.gradient_accumulation_steps) == (8, [], 1)
    with pytest.raises(UsageError, match="3 processes cannot share an effective batch of 16") as refused:
        resource_change(folder, {"gpus": [0, 1, 2]})
    assert refused.value.hint == "numbers of processes that fit: 1, 2, 4, 8"
    with pytest.raises(ConfigError, match="there is no GPU 9"):
        resource_change(folder, {"gpus": "9"})
    # After an out-of-memory retry the batch in the state is the one that counts.
    edit_state(folder, per_device_train_batch_size=1, gradient_accumulation_steps=8)
    three = resource_change(folder, {"gpus": [0]})
    assert three is not None and (three.per_device_train_batch_size, three.gradient_accumulation_steps) == (1, 16)
