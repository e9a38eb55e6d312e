"""Which GPUs a config asks for: what `gpus` and `gpu_count` mean, and what is refused before a run is made."""

from dataclasses import replace
from typing import Any

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.config.problems import InvalidConfigError
from dpo_tui.errors import ConfigError
from dpo_tui.hardware.apply_profile import resolve_profile
from dpo_tui.hardware.gpu_choice import placement_for
from dpo_tui.hardware.nvml import Inventory, NvmlFault
from dpo_tui.hardware.profiles import Ram
from dpo_tui.hardware.requested_gpus import with_counted_gpus
from dpo_tui.strategies import registry
from dpo_tui.strategies.dpo import DPO
from tests.support.doctor_facts import GIB, gpu

RAM = Ram(64 * GIB, 60 * GIB)
NO_DRIVER = Inventory((), NvmlFault("no-library", "no libnvidia-ml.so.1"))
EIGHT_BITS = {"quantization_config": {"load_in_8bit": True}}
SHARDED = {"gpus": [0, 1], "distributed": "fsdp2"}
FOUR = Inventory(tuple(gpu(index=index, uuid=f"GPU-{index}abc") for index in range(4)))


def config(**values: Any) -> Any:
    return from_values({"model_name": "m", "dataset": "d", **values})


def counted(inventory: Inventory, environ: dict[str, str] | None = None, **values: Any) -> Any:
    return with_counted_gpus(config(**values), inventory, environ or {})


@pytest.mark.parametrize(
    ("gpus", "kept", "world_size"),
    [
        ("auto", "auto", 1),
        ("none", "none", 1),
        (2, "2", 1),
        ("2", "2", 1),
        ([0, 1], "0,1", 2),
        (["0", "GPU-3abc"], "0,GPU-3abc", 2),
        ("0, 3", "0,3", 2),
    ],
)
def test_gpus_takes_a_word_a_number_or_a_list(gpus: Any, kept: str, world_size: int) -> None:
    found = config(gpus=gpus)
    assert (found.gpus, found.world_size) == (kept, world_size)


def test_the_effective_batch_counts_every_process() -> None:
    found = config(gpus="none", ranks=4, per_device_train_batch_size=2, gradient_accumulation_steps=3)
    assert (found.effective_batch, found.process_batch, found.batch_text) == (24, 6, "2 × 3 × 4 processes")
    # 50 rows are 25 batches, 7 rounds of 4 processes (one round repeats rows), 3 rounds a step.
    assert found.steps_per_epoch(50) == 3
    assert found.model_copy(update={"ranks": 1, "gradient_accumulation_steps": 12}).steps_per_epoch(50) == 3


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"gpus": [1, 1]}, "names GPU 1 twice"),
        ({"gpus": [0, 1], "gpu_count": 3}, "gpus names 2 GPUs"),
        ({"gpus": "none", "gpu_count": 2}, "ranks counts processes"),
        ({"gpus": "0", "ranks": 2}, "with GPUs there is one process each"),
        ({"ranks": 2}, "with GPUs there is one process each"),
        ({"gpus": [0, 1], "distributed": "none"}, "refuses the 2 processes"),
        ({"gpus": "none", "ranks": 2, "provider": "unsloth", "use_lora": True}, "trains on one GPU"),
        ({"gpus": "none", "ranks": 2, "use_lora": False, "use_4bit": True}, "4-bit weights cannot be trained"),
        ({"distributed": "fsdp2"}, "divides a model among processes, and the config asks for one"),
        ({"distributed": "zero3"}, "must be one of auto, none, ddp, fsdp2"),
        ({**SHARDED, "use_lora": True, "model_init": EIGHT_BITS}, 'quantization_config.*with distributed = "fsdp2"'),
        ({**SHARDED, "optim": "paged_adamw_8bit"}, "use adamw_torch, adamw_torch_fused or sgd"),
        ({**SHARDED, "optim": "adafactor"}, "does not work on weights that"),
        ({**SHARDED, "sync_ref_model": True, "use_lora": False}, "sync_ref_model"),
        ({**SHARDED, "ref_model": "another"}, "ref_model.*is not supported with distributed"),
        ({**SHARDED, "ref_adapter": "another"}, "ref_adapter.*is not supported with distributed"),
        ({**SHARDED, "activation_offloading": True}, "cpu_offload keeps weights in main memory"),
        ({**SHARDED, "trl": {"torch_compile": True}}, "torch_compile is not supported"),
        ({**SHARDED, "provider": "unsloth", "use_lora": True}, "trains on one GPU"),
        ({"gpus": [0, 1], "cpu_offload": True}, 'cpu_offload.*needs distributed = "fsdp2"'),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidConfigError, match=said):
        config(**values)


def test_a_strategy_that_was_not_tried_in_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "STRATEGIES", {"dpo": replace(DPO, several_processes=False)})
    with pytest.raises(InvalidConfigError, match="trains in one process here, and the config asks for 2"):
        config(gpus="none", ranks=2)
    assert config(gpus="none").world_size == 1


def test_all_counts_the_gpus_that_can_be_used() -> None:
    lost = gpu(index=4, faults={"memory": NvmlFault("lost", "lost")})
    assert counted(Inventory((*FOUR.gpus, lost)), gpus="all").world_size == 4
    assert counted(FOUR, {"CUDA_VISIBLE_DEVICES": "1,3"}, gpus="all").world_size == 2
    with pytest.raises(InvalidConfigError, match="refuses the 4 processes"):
        counted(FOUR, gpus="all", distributed="none")


@pytest.mark.parametrize(
    ("inventory", "values", "said"),
    [
        (FOUR, {"gpu_count": 5}, "gpu_count = 5: 4 can be used here"),
        (FOUR, {"gpus": "all", "gpu_count": 2}, "gpu_count = 2: there are 4"),
        (FOUR, {"gpus": [0, 7]}, "there is no GPU 7; the driver lists 0, 1, 2, 3"),
        (FOUR, {"gpus": "9"}, "there is no GPU 9"),
        (FOUR, {"gpus": ["0", "GPU-0abc"]}, "GPU-0abc and 0 are the same GPU"),
        (NO_DRIVER, {"gpus": "0"}, "no libnvidia-ml.so.1.*so no GPU 0"),
        (NO_DRIVER, {"gpus": "all"}, "this machine has no GPU"),
        (NO_DRIVER, {"gpu_count": 2}, "this machine has no GPU"),
        (Inventory((gpu(mig=True), gpu(index=1, mig=True))), {"gpus": [0, 1]}, "slices of a GPU"),
    ],
)
def test_gpus_that_are_not_there_are_refused(
    inventory: Inventory, values: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.path.exists", lambda path: False)
    with pytest.raises(ConfigError, match=said):
        counted(inventory, **values)


@pytest.mark.parametrize(
    ("inventory", "environ"),
    [
        (Inventory((), NvmlFault("no-driver", "driver and library differ in version")), {}),
        (NO_DRIVER, {"CUDA_VISIBLE_DEVICES": "0"}),
        (FOUR, {"CUDA_VISIBLE_DEVICES": "MIG-hidden"}),
    ],
)
def test_a_number_is_believed_where_the_driver_may_be_silent(inventory: Inventory, environ: dict[str, str]) -> None:
    assert counted(inventory, environ, gpus="7").gpus == "7"


def test_several_gpus_are_all_waited_for() -> None:
    named = placement_for(config(gpus=[1, 3]), FOUR, RAM, {})
    assert (named.devices, named.candidates) == (("gpu:1", "gpu:3"), ())
    every = placement_for(counted(FOUR, gpus="all"), FOUR, RAM, {})
    assert every.devices == ("gpu:0", "gpu:1", "gpu:2", "gpu:3")
    two = placement_for(config(gpu_count=2), FOUR, RAM, {})
    assert (two.devices, two.count, sorted(two.candidates)) == ((), 2, ["gpu:0", "gpu:1", "gpu:2", "gpu:3"])
    assert "whichever 2 of" in two.notes[0]


@pytest.mark.parametrize(("count", "batch"), [(2, (2, 2)), (4, (2, 1)), (8, (1, 1)), (3, (1, 3))])
def test_a_profile_shares_its_effective_batch_among_the_processes(count: int, batch: tuple[int, int]) -> None:
    box = Inventory(tuple(gpu(index=index, memory_total=12 * GIB, memory_free=12 * GIB) for index in range(8)))
    found = resolve_profile(config(profile="mid-range", gpu_count=count), set(), box, ram=RAM)
    assert (found.config.per_device_train_batch_size, found.config.gradient_accumulation_steps) == batch
    assert found.config.effective_batch == (9 if count == 3 else 8)
    kept = resolve_profile(
        config(profile="mid-range", gpu_count=count, gradient_accumulation_steps=4),
        {"gradient_accumulation_steps"},
        box,
        ram=RAM,
    )
    assert kept.config.gradient_accumulation_steps == 4, "what the file says is what is trained"
