"""Several processes train one run, as the command line starts them: torchrun, gloo, the CPU, a model of two layers.

Each is held to one process in this one, at the same effective batch: losses, evaluations and KL at every step.
"""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from dpo_tui.config.files import load
from dpo_tui.config.toml_text import to_toml
from dpo_tui.errors import UsageError
from dpo_tui.runs import control_requests, start_run
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.runs.complete_checkpoints import newest_complete
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.process import is_same_process, process_start
from dpo_tui.runs.ranks import read_reports
from dpo_tui.start.prepare import create_run, prepare, resume
from tests.support import supervised_runs
from tests.support.supervised_runs import ended, fresh_home, send, state_of, until  # noqa: F401 - a fixture
from tests.support.training import lines, losses, make_config, train

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that import torch and train, on two cores that others use too, may take minutes."""
    monkeypatch.setattr(supervised_runs, "PATIENCE", 300.0)


STEPS = 30
# 40 pairs, 8 of them held out: three batches of evaluation, which two processes cannot share evenly.
SETTINGS = {
    "per_device_train_batch_size": 2,
    "per_device_eval_batch_size": 3,
    "eval_split": 0.2,
    "eval_steps": 15,
    "max_steps": STEPS,
    "save_steps": 10,
    "sample_prompts": 1,
    "kl_prompts": 4,
    "kl_max_new_tokens": 4,
    "looks_share": 0.9,
}
# Trainer's train_loss is the sum over the steps of an attempt, divided by the steps of the whole run. TRL counts the
# tokens that a step gets right over the batches of all processes at once; of an evaluation they are compared.
NOT_COMPARED = {"t", "epoch", "train_loss", "mean_token_accuracy"}
TIMES = ("_seconds", "_per_second", "_runtime")


def run_of(model: Path, pairs: Path, tmp_path: Path, ranks: int, **changes: Any) -> RunFolder:
    """Create a run as the command line does, with an effective batch of 8."""
    values = SETTINGS | {"ranks": ranks, "gradient_accumulation_steps": 4 // ranks} | changes
    path = tmp_path / f"{ranks}.toml"
    path.write_text(to_toml(make_config(model, pairs, **values)))
    return create_run(prepare(load(path)))


def one_process(model: Path, pairs: Path, tmp_path: Path, **changes: Any) -> RunFolder:
    """The same training in this process, in a home of its own, so that nothing is taken from its caches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPO_TUI_HOME", str(tmp_path / "alone"))
        folder = run_of(model, pairs, tmp_path, 1, **changes)
        return train(load(folder.config).config, folder)


def logged(folder: RunFolder) -> dict[tuple[int, str], float]:
    """Every metric of every step; of a step that was made twice the later line counts."""
    values: dict[tuple[int, str], float] = {}
    for line in lines(folder.metrics):
        values |= {
            (line["step"], name): value
            for name, value in line.items()
            if value is not None and name not in NOT_COMPARED and not name.endswith(TIMES)
        }
    return values


def largest_difference(one: RunFolder, other: RunFolder) -> float:
    """Of any metric that both have, after all steps and evaluations were made by both."""
    first, second = logged(one), logged(other)
    assert losses(one).keys() == losses(other).keys() == set(range(1, STEPS + 1))
    for values in (first, second):
        assert {step for step, name in values if name == "eval_loss"} == {0, 15, 30}
    return max(abs(first[key] - second[key]) for key in first.keys() & second.keys())


def reaches(folder: RunFolder, step: int) -> None:
    until(lambda: ((read_json(folder.progress) or {}).get("step") or 0) >= step, f"{folder.id} to reach step {step}")


def has_no_base_weights(folder: Path) -> bool:
    """Whether a folder has an adapter's weights and no others, in any file."""
    assert not list(folder.glob("model*")) and not list(folder.glob("*.distcp"))
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
    return bool(names) and all("lora_" in name for name in names)


def test_two_processes_train_as_one_and_one_goes_on_where_they_stopped(
    tiny_model: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    folder = run_of(tiny_model, tiny_pairs, tmp_path, 2)
    assert (state_of(folder).launcher, state_of(folder).ranks) == ("torchrun", 2)
    start_run.start(folder)
    reaches(folder, 3)
    control_requests.request_stop(folder)
    state = ended(folder)
    assert (state.status, [report.code for report in read_reports(folder)]) == ("stopped", [130, 130])
    checkpoint, _ = newest_complete(folder.checkpoints)
    assert checkpoint is not None and has_no_base_weights(checkpoint)
    receipt = json.loads(folder.receipt.read_text())
    assert (receipt["ranks"], receipt["effective_batch"]) == (2, 8)
    assert receipt["shortcuts"]["share_prefix"]["on"]
    assert receipt["shortcuts"]["reference_once"]["kept_from_before"] == {"train": False, "eval": False}

    with pytest.raises(UsageError, match="3 processes cannot share an effective batch of 8"):
        resume(folder, changes={"ranks": 3})
    with pytest.raises(UsageError, match="only gpus, gpu_count, ranks may change"):
        resume(folder, changes={"learning_rate": 1.0})
    resume(folder, changes={"ranks": 1})
    state = ended(folder)
    assert (state.status, state.reason, state.ranks, state.launcher) == ("done", "", 1, "local")
    assert state.gradient_accumulation_steps == 4
    receipt = json.loads(folder.receipt.read_text())
    assert (receipt["ranks"], receipt["effective_batch"], receipt["results"]["steps"]) == (1, 8, STEPS)
    assert has_no_base_weights(folder.adapter)
    alone = one_process(tiny_model, tiny_pairs, tmp_path)
    assert largest_difference(alone, folder) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({}, 1e-4),
        ({"use_lora": False, "learning_rate": 1e-4}, 1e-4),
        # TRL's SFT draws dropout, in each process another.
        ({"strategy": "sft", "kl_prompts": 0, "lora_dropout": 0.0}, 1e-4),
        ({"precompute_ref_log_probs": "off", "share_prefix": "off"}, 1e-4),
        # TRL casts adapters over NF4 to bf16: gradients are rounded to 2⁻⁹ of their size before they are averaged.
        ({"use_4bit": True}, 2**-8),
    ],
    ids=["lora", "full", "sft", "nothing-shared", "nf4"],
)
def test_two_processes_train_as_one(
    tiny_model: Path, tiny_pairs: Path, tmp_path: Path, changes: dict[str, Any], limit: float
) -> None:
    folder = run_of(tiny_model, tiny_pairs, tmp_path, 2, **changes)
    start_run.start(folder)
    assert ended(folder).status == "done"
    assert largest_difference(one_process(tiny_model, tiny_pairs, tmp_path, **changes), folder) <= limit


@pytest.mark.slow
def test_tokens_and_scores_that_two_processes_have_kept_are_those_of_one(
    tiny_model: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    many = tmp_path / "many.jsonl"
    rows = [{**row, "prompt": f"{row['prompt']} {number}"} for number in range(14) for row in lines(tiny_pairs)]
    many.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    changes = {"precompute_ref_log_probs": "on", "eval_split": 0.02}
    first, second = (run_of(tiny_model, many, tmp_path, 2, **changes) for _ in range(2))
    for folder in (first, second):
        start_run.start(folder)
        assert ended(folder).status == "done"
    third = run_of(tiny_model, many, tmp_path, 1, **changes)
    train(load(third.config).config, third)
    for folder, kept in ((first, False), (second, True), (third, True)):
        notes = " ".join(event["message"] for event in lines(folder.events))
        assert ("pairs are tokenised already" in notes) is kept
        receipt = json.loads(folder.receipt.read_text())
        assert receipt["shortcuts"]["reference_once"]["kept_from_before"] == {"train": kept, "eval": kept}
    assert largest_difference(one_process(tiny_model, many, tmp_path, **changes), first) <= 1e-4
    assert max(largest_difference(first, second), largest_difference(first, third)) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_a_run_of_one_process_goes_on_with_several(
    tiny_model: Path, tiny_pairs: Path, tmp_path: Path, ranks: int
) -> None:
    folder = run_of(tiny_model, tiny_pairs, tmp_path, 1)
    start_run.start(folder)
    reaches(folder, 3)
    control_requests.request_stop(folder)
    assert ended(folder).status == "stopped"
    resume(folder, changes={"ranks": ranks})
    state = ended(folder)
    assert (state.status, state.reason, state.ranks, state.launcher) == ("done", "", ranks, "torchrun")
    assert largest_difference(one_process(tiny_model, tiny_pairs, tmp_path), folder) <= 1e-4


@pytest.mark.slow
def test_four_processes_train_as_one(tiny_model: Path, tiny_pairs: Path, tmp_path: Path) -> None:
    folder = run_of(tiny_model, tiny_pairs, tmp_path, 4)
    start_run.start(folder)
    state = ended(folder)
    assert (state.status, state.reason, len(read_reports(folder))) == ("done", "", 4)
    assert largest_difference(one_process(tiny_model, tiny_pairs, tmp_path), folder) <= 1e-4


@pytest.mark.slow
def test_a_rank_that_is_killed_and_one_that_freezes_are_named_and_the_run_goes_on_to_the_same_losses(
    tiny_model: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPO_TUI_RANK_SILENCE", "15")
    folder = run_of(tiny_model, tiny_pairs, tmp_path, 2, save_steps=2)
    start_run.start(folder)
    reaches(folder, 4)
    send(read_reports(folder)[1].pid, signal.SIGKILL)
    state = ended(folder)
    assert state.status == "failed"
    assert state.reason.startswith("rank 1 on ") and "was killed or crashed (phase train, step " in state.reason

    resume(folder)

    def trains_again() -> Any:
        # The first attempt's reports are there until the second begins.
        found = read_reports(folder)
        return len(found) == 2 and all(is_same_process(one.pid, one.start) for one in found) and found[0].step and found

    frozen = until(trains_again, "rank 0 to train again")[0]
    send(frozen.pid, signal.SIGSTOP)
    state = ended(folder)
    assert state.status == "failed"
    assert state.reason.startswith("rank 0 on ") and "hung: no sign of life for 15 s" in state.reason
    assert not is_same_process(frozen.pid, process_start(frozen.pid))

    resume(folder)
    assert ended(folder).status == "done"
    assert largest_difference(one_process(tiny_model, tiny_pairs, tmp_path, save_steps=2), folder) <= 1e-4
