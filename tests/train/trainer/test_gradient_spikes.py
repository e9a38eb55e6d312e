"""Spikes of the gradient norm: which steps count, and the rows that the warning names."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.advice import receipt_rules
from dpo_tui.advice.diagnose import apply_rules
from dpo_tui.advice.evidence import Evidence
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.ranks import Rank
from dpo_tui.train.trainer import gradient_spikes
from dpo_tui.train.worker.journal import Journal
from tests.support.training import finished_run


def spike_events(folder: RunFolder) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in folder.events.read_text().splitlines()] if folder.events.exists() else []
    return [line for line in lines if line.get("rule") == "spike"]


def test_the_rows_of_the_step_are_named(
    home: Path, tiny_model: Path, tiny_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real training, with a threshold so low that a step's gradient is a spike: all its pairs, and only they."""
    monkeypatch.setattr(gradient_spikes, "SPIKE", 0.0)
    monkeypatch.setattr(gradient_spikes, "SPIKE_PREDECESSORS", 1)
    options = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "logging_steps": 1}
    folder = finished_run(tiny_model, tiny_pairs, eval_split=0.0, sample_prompts=0, **options)
    events = spike_events(folder)
    assert [event["step"] for event in events] == [2, 3]
    prompts = [json.loads(line)["prompt"] for line in tiny_pairs.read_text().splitlines()]
    named = [[prompt for prompt in prompts if prompt[-20:] in event["batch"]] for event in events]
    assert [len(rows) for rows in named] == [6, 6], "three pairs, twice"
    assert not set(named[0]) & set(named[1])
    assert events[0]["batch"].count(" tokens)") == 6


def detector_of(folder: Path) -> tuple[gradient_spikes.SpikeDetector, RunFolder]:
    return gradient_spikes.SpikeDetector(None, Journal(RunFolder(folder))), RunFolder(folder)


def test_only_a_jump_far_above_its_neighbours_is_a_spike(tmp_path: Path) -> None:
    detector, folder = detector_of(tmp_path)
    for step, norm in enumerate([50.0, *[1.0] * 25, 9.0, 12.0, 8.0, 300.0, 5.0], start=1):
        detector.check(step, norm)
    assert [event["step"] for event in spike_events(folder)] == [28, 30]


def test_a_gradient_that_is_no_number_is_told_and_not_without_end(tmp_path: Path) -> None:
    detector, folder = detector_of(tmp_path)
    for step in range(100):
        detector.check(step, math.nan)
    assert 1 <= len(spike_events(folder)) <= 10


@pytest.mark.parametrize("number", [0, 1])
def test_one_of_several_processes_names_its_own_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    monkeypatch.setattr(gradient_spikes.SpikeDetector, "_describe_batches", lambda self: "“a” (3 tokens)")
    journal = Journal(RunFolder(tmp_path), Rank(number, number, 2))
    gradient_spikes.SpikeDetector(None, journal).check(7, math.nan)
    said = spike_events(RunFolder(tmp_path))[0]["message"] if number == 0 else capsys.readouterr().out
    assert f"Rank {number}'s rows (those of others: ranks/N.log): “a” (3 tokens)" in said


def test_the_advice_names_the_rows_that_the_worker_saw(tmp_path: Path) -> None:
    """Worker and rule agree on what a spike is, though the worker may not know the rules."""
    assert (gradient_spikes.SPIKE, gradient_spikes.SPIKE_PREDECESSORS) == (
        receipt_rules.SPIKE,
        receipt_rules.SPIKE_PREDECESSORS,
    )
    norms = [1.0] * 30 + [80.0] + [1.0] * 9
    detector, folder = detector_of(tmp_path)
    for step, norm in enumerate(norms, start=1):
        detector.check(step, norm)
    (event,) = spike_events(folder)
    event |= {"batch": "“…an odd one” (900 tokens)"}
    metrics = [{"step": step, "loss": 0.69 - 0.005 * step, "grad_norm": norm} for step, norm in enumerate(norms, 1)]
    found = apply_rules(Evidence({"strategy": "dpo"}, metrics, events=[event]))
    (advice,) = [advice for advice in found if advice.rule == "spikes"]
    assert "at step 31 to 80" in advice.message
    assert "Its batch: “…an odd one” (900 tokens)" in advice.message
