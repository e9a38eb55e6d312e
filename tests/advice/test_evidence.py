"""What the rules are told of a run: its settings, series, batch and start, as far as its folder says."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.advice.curve_statistics import mean, median, part
from dpo_tui.advice.evidence import Evidence, read_evidence
from dpo_tui.advice.held_out import held_out_count, held_out_of


def test_a_setting_that_is_no_number_counts_as_unknown() -> None:
    run = Evidence({"beta": True, "learning_rate": "fast", "num_train_epochs": 2})
    assert (run.beta, run.setting("learning_rate", 1e-6), run.setting("num_train_epochs", 3.0)) == (0.1, 1e-6, 2.0)


@pytest.mark.parametrize(
    ("receipt", "pairs", "steps"),
    [
        ({"effective_batch": 16, "data": {"train": 100}}, 80.0, 7),
        ({"effective_batch": 16}, 80.0, math.inf),
        ({}, 40.0, math.inf),
        ({"effective_batch": 0, "data": {"train": 100}}, 0.0, math.inf),
        ({"effective_batch": 16, "data": {"train": 0}}, 80.0, math.inf),
    ],
)
def test_lines_and_epochs_are_counted_in_the_runs_own_batches(
    receipt: dict[str, Any], pairs: float, steps: float
) -> None:
    run = Evidence({"logging_steps": 5}, receipt=receipt)
    assert (run.pairs_per_line, run.steps_per_epoch) == (pairs, steps)


@pytest.mark.parametrize(
    ("logged", "start"),
    [({"step": 1, "loss": 0.8}, 0.8), ({"step": 1, "loss": 0.84}, math.log(2)), ({"step": 2, "loss": 0.8}, math.log(2)),
     ({"step": 1, "loss": 0.5}, math.log(2))],
)  # fmt: skip
def test_the_loss_that_was_logged_first_is_the_start_if_it_is_near_what_it_must_be(
    logged: dict[str, Any], start: float
) -> None:
    assert Evidence({"strategy": "dpo"}, [logged]).loss_start == pytest.approx(start)


def test_only_numbers_that_are_finite_and_of_a_step_are_in_a_series() -> None:
    lines: list[dict[str, Any]] = [
        {"step": 1, "loss": 0.7},
        {"step": "2", "loss": 0.6},
        {"loss": 0.5},
        {"step": 3, "loss": None},
        {"step": 4, "loss": math.inf},
        {"step": 5, "loss": 0.4},
        {"step": 6, "eval_loss": 0.3},
    ]
    run = Evidence(metrics=lines)
    assert run.series("loss") == [(1, 0.7), (5, 0.4)]
    assert run.step == 6


def test_the_newest_event_of_a_rule_counts() -> None:
    events = [{"rule": "leak", "rows": 1}, {"rule": "leak", "rows": 2}, {"rule": "duplicates", "rows": 3}]
    assert Evidence(events=events).newest_event("leak") == {"rule": "leak", "rows": 2}
    assert Evidence(events=events).newest_event("spike") is None


def test_a_run_folder_is_read_with_the_supervisors_events_first(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(json.dumps({"status": "failed"}))
    (tmp_path / "progress.json").write_text(json.dumps({"max_steps": 40}))
    (tmp_path / "supervisor.jsonl").write_text('{"kind": "started"}\n')
    (tmp_path / "events.jsonl").write_text('{"kind": "phase"}\n')
    lines = [
        {"step": 5, "eval_kl": 2.0},
        {"step": 5, "eval_loss": 0.5},
        {"step": 5, "loss": 0.6},
        {"step": 5, "eval_kl": 3.0},
        {"step": 1, "loss": 0.7},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_evidence(tmp_path)
    assert (run.over, run.max_steps, [event["kind"] for event in run.events]) == (True, 40, ["started", "phase"])
    assert run.values("loss") == [0.7, 0.6], "in the order of the steps"
    assert (run.values("eval_loss"), run.values("eval_kl")) == ([0.5], [3.0]), "the newest of a kind, beside the others"
    (tmp_path / "state.json").write_text(json.dumps({"status": "running"}))
    (tmp_path / "progress.json").write_text("[]")
    again = read_evidence(tmp_path)
    assert (again.over, again.max_steps) == (False, None)


def evaluated(*lines: dict[str, Any], receipt: dict[str, Any] | None = None) -> Any:
    return held_out_of(Evidence({"strategy": "dpo"}, lines, receipt or {"data": {"held_out": 40}}))


def test_what_was_held_out_is_told_from_the_last_evaluation_after_the_first_step() -> None:
    before = {"step": 0, "eval_loss": 0.7, "eval_rewards/accuracies": 0.1}
    assert evaluated(before) is None, "nothing was trained yet"
    found = evaluated(
        before,
        {"step": 5, "eval_loss": 0.5, "eval_rewards/accuracies": 0.9},
        {"step": 9, "eval_loss": 0.6, "eval_rewards/accuracies": 0.8},
    )
    assert (found.count, found.accuracy, found.loss, found.start, found.best) == (40, 0.8, 0.6, 0.7, 0.5)
    assert found.interval == pytest.approx((0.6524, 0.8950), abs=1e-4)
    assert found.proves_learning


def test_a_loss_that_has_not_fallen_below_its_start_proves_nothing() -> None:
    lines = [{"step": 0, "eval_loss": 0.7}, {"step": 5, "eval_loss": 0.7, "eval_rewards/accuracies": 0.9}]
    assert not evaluated(*lines).proves_learning


def test_the_number_of_held_out_pairs_is_the_receipts_or_that_of_the_evaluations_speed() -> None:
    timed = [{"step": 1, "eval_runtime": 3.0, "eval_samples_per_second": 16.1}]
    assert held_out_count(Evidence(metrics=timed, receipt={"data": {"held_out": 40}})) == 40
    assert held_out_count(Evidence(metrics=timed)) == 48
    assert held_out_count(Evidence()) is None


def test_parts_means_and_medians_of_short_curves() -> None:
    assert part([1, 2, 3, 4], 0.5, 1) == [3, 4]
    assert part([1, 2, 3], 0.5, 1) == [2, 3]
    assert part([1], 0.5, 0.6) == [1]
    assert part([], 0, 1) == []
    assert (median([3.0, 1.0, 2.0]), median([1.0, 4.0]), mean([1.0, 2.0, 6.0])) == (2.0, 4.0, 3.0)
    assert math.isnan(mean([])) and math.isnan(median([]))
