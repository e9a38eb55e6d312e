"""FSDP2: processes that divide the model among them train as one does (torchrun, gloo, the CPU)."""

import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dpo_tui.runs import control_requests, start_run
from dpo_tui.runs.complete_checkpoints import newest_complete
from dpo_tui.runs.process import is_same_process, process_start
from dpo_tui.runs.ranks import read_reports
from dpo_tui.start.prepare import resume
from dpo_tui.train.model.device import TrainingDevice
from dpo_tui.train.model.sharding import with_dtypes_of_one_process
from tests.support import supervised_runs
from tests.support.several_processes import (
    STEPS,
    has_no_base_weights,
    largest_difference,
    one_process,
    reaches,
    run_of,
    trains_again,
)
from tests.support.supervised_runs import ended, fresh_home, send, until  # noqa: F401 - a fixture
from tests.support.training import lines, losses, make_config

pytestmark = pytest.mark.usefixtures("home")
SHARDED = {"distributed": "fsdp2"}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that import torch and train, on two cores that others use too, may take minutes."""
    monkeypatch.setattr(supervised_runs, "PATIENCE", 300.0)


def test_two_processes_that_divide_the_model_train_as_one_which_goes_on_where_they_stopped(
    tiny_model: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    folder = run_of(tiny_model, tiny_pairs, tmp_path, 2, **SHARDED)
    start_run.start(folder)
    reaches(folder, 3)
    control_requests.request_stop(folder)
    state = ended(folder)
    assert (state.status, [report.code for report in read_reports(folder)]) == ("stopped", [130, 130])
    divided = next(event for event in lines(folder.events) if "is divided among 2 processes" in event["message"])
    assert divided["held"] == pytest.approx(divided["of"] / 2, rel=0.05)
    checkpoint, _ = newest_complete(folder.checkpoints)
    assert checkpoint is not None and has_no_base_weights(checkpoint)
    receipt = json.loads(folder.receipt.read_text())
    assert (receipt["ranks"], receipt["effective_batch"]) == (2, 8)
    assert receipt["shortcuts"]["share_prefix"]["on"] and receipt["shortcuts"]["labelled_head"]["on"]
    assert receipt["shortcuts"]["reference_once"]["kept_from_before"] == {"train": False, "eval": False}

    resume(folder, changes={"ranks": 1})
    state = ended(folder)
    assert (state.status, state.reason, state.ranks, state.launcher) == ("done", "", 1, "local")
    assert json.loads(folder.receipt.read_text())["results"]["steps"] == STEPS
    assert has_no_base_weights(folder.adapter)
    assert largest_difference(one_process(tiny_model, tiny_pairs, tmp_path), folder) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"cpu_offload": True},
        {"use_lora": False, "learning_rate": 1e-4},
        {"use_lora": False, "learning_rate": 1e-4, "kl_prompts": 0},
        {"strategy": "sft", "kl_prompts": 0, "lora_dropout": 0.0},
        {"precompute_ref_log_probs": "off", "share_prefix": "off"},
        {"strategy": "orpo", "kl_prompts": 0, "lora_dropout": 0.0},
    ],
    ids=["lora", "cpu offload", "full", "full, once", "sft", "nothing shared", "orpo"],
)
def test_two_processes_that_divide_the_model_train_as_one(
    tiny_model: Path, tiny_pairs: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = run_of(tiny_model, tiny_pairs, tmp_path, 2, **SHARDED, **changes)
    start_run.start(folder)
    state = ended(folder)
    assert (state.status, state.reason) == ("done", "")
    alone = {name: value for name, value in changes.items() if name != "cpu_offload"}
    assert largest_difference(one_process(tiny_model, tiny_pairs, tmp_path, **alone), folder) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"cpu_offload": True}, {"gradient_checkpointing": True}, {"precompute_ref_log_probs": "off"}],
    ids=["nf4", "cpu offload", "checkpointed", "reference in steps"],
)
def test_nf4_weights_are_divided_and_train_as_in_one_process(
    tiny_model: Path, tiny_pairs: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    own = {"use_4bit": True, **changes}
    folder = run_of(tiny_model, tiny_pairs, tmp_path, 2, **SHARDED, **own)
    start_run.start(folder)
    reaches(folder, 3)
    control_requests.request_stop(folder)
    assert ended(folder).status == "stopped"
    resume(folder)
    state = ended(folder)
    assert (state.status, state.reason) == ("done", "")
    divided = next(event for event in lines(folder.events) if "is divided among 2 processes" in event["message"])
    assert divided["held"] == pytest.approx(divided["of"] / 2, rel=0.05)
    assert has_no_base_weights(folder.adapter)
    alone = one_process(
        tiny_model, tiny_pairs, tmp_path, **{name: value for name, value in own.items() if name != "cpu_offload"}
    )
    mine, its = losses(folder), losses(alone)
    assert max(abs(mine[step] - its[step]) for step in its) <= 5e-4
    # Adapters over NF4 are bf16, and so are their gradients, which are averaged.
    assert largest_difference(alone, folder) <= 2**-8


@pytest.mark.slow
@pytest.mark.parametrize("use_lora", [True, False], ids=["adapter", "full"])
def test_the_best_weights_are_restored_into_a_divided_model(
    tiny_model: Path, tiny_pairs: Path, tmp_path: Path, *, use_lora: bool
) -> None:
    # Held-out pairs that prefer what is trained to be rejected: the first of two evaluations is the better one.
    swapped = tmp_path / "swapped.jsonl"
    pairs = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in lines(tiny_pairs)[:6]]
    swapped.write_text("".join(f"{json.dumps(row)}\n" for row in pairs))
    changes = {"eval_dataset": str(swapped), "eval_split": 0.0, "load_best": "loss", "kl_prompts": 0}
    changes |= {} if use_lora else {"use_lora": False, "learning_rate": 1e-4}
    folder = run_of(tiny_model, tiny_pairs, tmp_path, 2, **SHARDED, **changes)
    start_run.start(folder)
    state = ended(folder)
    assert (state.status, state.reason) == ("done", "")
    assert json.loads(folder.receipt.read_text())["results"]["best"]["step"] == 15
    alone = one_process(tiny_model, tiny_pairs, tmp_path, **changes)
    result = "adapter/adapter_model.safetensors" if use_lora else "merged/model.safetensors"
    mine, its = (load_file(one.path / result) for one in (folder, alone))
    assert mine.keys() == its.keys()
    assert max(float((mine[name] - its[name]).abs().max()) for name in mine) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("use_lora", [True, False], ids=["adapter", "full"])
def test_four_processes_stop_two_go_on_and_one_ends_with_the_losses_of_one(
    tiny_model: Path, tiny_pairs: Path, tmp_path: Path, *, use_lora: bool
) -> None:
    changes: dict[str, Any] = {} if use_lora else {"use_lora": False, "learning_rate": 1e-4}
    folder = run_of(tiny_model, tiny_pairs, tmp_path, 4, **SHARDED, **changes)
    start_run.start(folder)
    for step, then in ((3, 2), (10, 1)):
        reaches(folder, step)
        control_requests.request_stop(folder)
        assert ended(folder).status == "stopped"
        resume(folder, changes={"ranks": then})
    state = ended(folder)
    assert (state.status, state.reason, state.ranks) == ("done", "", 1)
    divided = [event["message"] for event in lines(folder.events) if "is divided among" in event["message"]]
    assert ["among 4" in divided[0], "among 2" in divided[1], len(divided)] == [True, True, 2]
    assert largest_difference(one_process(tiny_model, tiny_pairs, tmp_path, **changes), folder) <= 1e-4


@pytest.mark.slow
def test_a_rank_that_is_killed_and_one_that_freezes_are_named_and_the_run_goes_on_to_the_same_losses(
    tiny_model: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPO_TUI_RANK_SILENCE", "15")
    folder = run_of(tiny_model, tiny_pairs, tmp_path, 2, save_steps=2, **SHARDED)
    start_run.start(folder)
    reaches(folder, 4)
    send(read_reports(folder)[1].pid, signal.SIGKILL)
    state = ended(folder)
    assert state.status == "failed"
    assert state.reason.startswith("rank 1 on ") and "was killed or crashed (phase train, step " in state.reason

    resume(folder)
    frozen = until(lambda: trains_again(folder), "rank 1 to train again")[1]
    send(frozen.pid, signal.SIGSTOP)
    state = ended(folder)
    assert state.status == "failed"
    assert state.reason.startswith("rank 1 on ") and "hung: no sign of life for 15 s" in state.reason
    assert not is_same_process(frozen.pid, process_start(frozen.pid))

    resume(folder)
    assert ended(folder).status == "done"
    assert largest_difference(one_process(tiny_model, tiny_pairs, tmp_path, save_steps=2), folder) <= 1e-4


OUT_OF_MEMORY = '''
"""Rank 1 runs out of memory in its fifth training step, as long as its micro-batch has two pairs."""
import importlib.abc, importlib.machinery, os, sys

class Patching(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "dpo_tui.train.trainer.trainers" or os.environ.get("RANK") != "1":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        def patched(module):
            execute(module)
            step, count = module.PairTrainer.training_step, [0]
            def failing(self, *args, **kwargs):
                count[0] += 1
                if count[0] == 5 and self.args.per_device_train_batch_size == 2:
                    import torch
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
                return step(self, *args, **kwargs)
            module.PairTrainer.training_step = failing
        spec.loader.exec_module = patched
        return spec

sys.meta_path.insert(0, Patching())
'''


@pytest.mark.slow
def test_one_rank_out_of_memory_makes_all_go_on_with_a_smaller_micro_batch(
    tiny_model: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(OUT_OF_MEMORY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    folder = run_of(tiny_model, tiny_pairs, tmp_path, 2, **SHARDED)
    start_run.start(folder)
    state = ended(folder)
    assert (state.status, state.reason) == ("done", "")
    assert (state.per_device_train_batch_size, state.gradient_accumulation_steps) == (1, 4)
    assert largest_difference(one_process(tiny_model, tiny_pairs, tmp_path), folder) <= 1e-4


def test_the_dtypes_of_a_divided_model_are_those_of_one_process(tiny_model: Path, tiny_pairs: Path) -> None:
    """Accelerate's own policy would return log-probabilities in bf16."""
    for use_lora, computes in ((True, None), (False, torch.bfloat16)):
        config = make_config(tiny_model, tiny_pairs, ranks=2, use_lora=use_lora, **SHARDED)
        arguments = SimpleNamespace(fsdp_plugin_args={})
        with_dtypes_of_one_process(arguments, config, TrainingDevice("cuda", "bf16", ""))
        policy = arguments.fsdp_plugin_args["mixed_precision_policy"]
        assert (policy.param_dtype, policy.output_dtype) == (computes, None)
        assert policy.reduce_dtype in (None, torch.float32)
