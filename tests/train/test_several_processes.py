"""Several processes train one run, as the command line starts them: torchrun, gloo, the CPU, a model of two layers.

Each is held to one process in this one, at the same effective batch: losses, evaluations and KL at every step.
"""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import load
from dpo_tui.errors import UsageError
from dpo_tui.runs import control_requests, start_run
from dpo_tui.runs.complete_checkpoints import newest_complete
from dpo_tui.runs.process import is_same_process, process_start
from dpo_tui.runs.ranks import read_reports
from dpo_tui.start.prepare import resume
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
from tests.support.supervised_runs import ended, fresh_home, send, state_of, until  # noqa: F401 - a fixture
from tests.support.training import lines, train

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that import torch and train, on two cores that others use too, may take minutes."""
    monkeypatch.setattr(supervised_runs, "PATIENCE", 300.0)


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
    until(
        lambda: read_reports(folder)[1].step, "a sign of life of rank 1 with its step: it gives one every few seconds"
    )
    send(read_reports(folder)[1].pid, signal.SIGKILL)
    state = ended(folder)
    assert state.status == "failed"
    assert state.reason.startswith("rank 1 on ") and "was killed or crashed (phase train, step " in state.reason

    resume(folder)

    frozen = until(lambda: trains_again(folder), "rank 0 to train again")[0]
    send(frozen.pid, signal.SIGSTOP)
    state = ended(folder)
    assert state.status == "failed"
    assert state.reason.startswith("rank 0 on ") and "hung: no sign of life for 15 s" in state.reason
    assert not is_same_process(frozen.pid, process_start(frozen.pid))

    resume(folder)
    assert ended(folder).status == "done"
    assert largest_difference(one_process(tiny_model, tiny_pairs, tmp_path, save_steps=2), folder) <= 1e-4
