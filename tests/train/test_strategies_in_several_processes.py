"""KTO, ORPO, SimPO and CPO in two processes (torchrun, gloo, the CPU) against one at the same effective batch."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import load
from dpo_tui.runs import control_requests, start_run
from dpo_tui.runs.ranks import read_reports
from dpo_tui.start.prepare import resume
from dpo_tui.train.trainer.labelled_trainer import LabelledTrainer
from tests.support import supervised_runs
from tests.support.several_processes import STEPS, has_no_base_weights, largest_difference, one_process, reaches, run_of
from tests.support.supervised_runs import ended, fresh_home, state_of  # noqa: F401 - a fixture
from tests.support.training import lines

pytestmark = [pytest.mark.usefixtures("home"), pytest.mark.slow]
# Without a reference there is no KL to estimate.
REFERENCE_FREE = {"kl_prompts": 0, "lora_dropout": 0.0}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that import torch and train, on two cores that others use too, may take minutes."""
    monkeypatch.setattr(supervised_runs, "PATIENCE", 300.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"strategy": "orpo"},
        {"strategy": "simpo"},
        {"strategy": "cpo", "use_lora": False, "learning_rate": 1e-4},
    ],
    ids=["orpo", "simpo", "cpo, full"],
)
def test_two_processes_train_without_a_reference_as_one(
    tiny_model: Path, tiny_pairs: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    changes = REFERENCE_FREE | changes
    folder = run_of(tiny_model, tiny_pairs, tmp_path, 2, **changes)
    start_run.start(folder)
    state = ended(folder)
    assert (state.status, state.reason) == ("done", "")
    assert largest_difference(one_process(tiny_model, tiny_pairs, tmp_path, **changes), folder) <= 1e-4


def test_one_process_goes_on_where_two_stopped_without_a_reference(
    tiny_model: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    changes = REFERENCE_FREE | {"strategy": "cpo"}
    folder = run_of(tiny_model, tiny_pairs, tmp_path, 2, **changes)
    start_run.start(folder)
    reaches(folder, 3)
    control_requests.request_stop(folder)
    assert (ended(folder).status, [report.code for report in read_reports(folder)]) == ("stopped", [130, 130])
    resume(folder, changes={"ranks": 1})
    state = ended(folder)
    assert (state.status, state.ranks, state.gradient_accumulation_steps) == ("done", 1, 4)
    assert has_no_base_weights(folder.adapter)
    assert largest_difference(one_process(tiny_model, tiny_pairs, tmp_path, **changes), folder) <= 1e-4


@pytest.fixture
def kl_answers_of_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make one process with micro-batches of four set the answers of its KL term after prompts as two of two do."""
    prepare = LabelledTrainer._prepare_dataset

    def in_twos(self: Any, dataset: Any, processing_class: Any, args: Any, name: str) -> Any:
        assert args.per_device_train_batch_size == 4
        return prepare(self, dataset, processing_class, replace(args, per_device_train_batch_size=2), name)

    monkeypatch.setattr(LabelledTrainer, "_prepare_dataset", in_twos)


@pytest.mark.usefixtures("kl_answers_of_each_process")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precompute_ref_log_probs": "on"},
        {"use_lora": False, "learning_rate": 1e-4},
        {"precompute_ref_log_probs": "on", "distributed": "fsdp2"},
    ],
    ids=["reference in steps", "reference once", "full", "reference once, divided"],
)
def test_two_processes_train_kto_as_one_with_the_micro_batch_of_both(
    tiny_model: Path, tiny_pairs: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    changes = {"strategy": "kto"} | changes
    folder = run_of(tiny_model, tiny_pairs, tmp_path, 2, **changes)
    start_run.start(folder)
    state = ended(folder)
    assert (state.status, state.reason) == ("done", "")
    together = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    for_one = {name: value for name, value in changes.items() if name != "distributed"}
    alone = one_process(tiny_model, tiny_pairs, tmp_path, **for_one, **together)
    assert largest_difference(alone, folder) <= 1e-4
    assert max(line.get("kl_term", 0.0) for line in lines(folder.metrics)) > 0, "else no KL term would be compared"
    notes = " ".join(event["message"] for event in lines(folder.events))
    assert "The KL term is the mean over the 4 answers that 2 processes compute at once" in notes


def test_kto_goes_on_in_one_process_with_the_same_effective_batch(
    tiny_model: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    folder = run_of(tiny_model, tiny_pairs, tmp_path, 2, strategy="kto")
    start_run.start(folder)
    reaches(folder, 3)
    control_requests.request_stop(folder)
    assert ended(folder).status == "stopped"
    resume(folder, changes={"ranks": 1})
    assert ended(folder).status == "done"
    assert state_of(folder).gradient_accumulation_steps == 4
    receipt = json.loads(folder.receipt.read_text())
    assert (receipt["ranks"], receipt["effective_batch"], receipt["results"]["steps"]) == (1, 8, STEPS)
    assert load(folder.config).config.strategy == "kto"
