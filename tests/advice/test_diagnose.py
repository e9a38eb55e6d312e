"""Advice on runs: the right word first, no alarm where all is well, on runs that were really trained."""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dpo_tui.advice import receipt_rules
from dpo_tui.advice.advice import HEALTHY, TOO_EARLY
from dpo_tui.advice.diagnose import RULES, apply_rules, diagnose
from dpo_tui.advice.evidence import Evidence, read_evidence
from dpo_tui.advice.held_out import FEW_PAIRS, held_out_of
from dpo_tui.advice.remedies import config_with_remedy, next_name
from dpo_tui.cli import cli
from dpo_tui.config.files import from_values, load, with_changes
from dpo_tui.config.schema import fields
from dpo_tui.config.toml_text import to_toml
from dpo_tui.errors import RunError, UsageError
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.strategies.metric_expectations import LN2

FOLDERS = [Path(__file__).parents[2] / "tests" / name for name in ("advice_runs", "advice_runs_by_loss")]
RUNS = sorted(path.parent for folder in FOLDERS for path in folder.glob("*/label.json"))
UNSEEN_RUNS = sorted(
    path.parent
    for name in ("advice_runs_unseen", "advice_runs_other_models")
    for path in FOLDERS[0].with_name(name).glob("*/label.json")
)
LABELS = {run: json.loads((run / "label.json").read_text()) for run in RUNS}
HEALTHY_RUNS = [run for run in RUNS if LABELS[run]["right"] == [HEALTHY]]


def test_the_labelled_set_is_as_large_and_as_mixed_as_it_must_be() -> None:
    """At least 24 runs, at least 8 of them healthy, each fault at least once."""
    assert len(RUNS) >= 24
    assert len(HEALTHY_RUNS) >= 8
    assert {rule for label in LABELS.values() for rule in label["right"]} >= {
        "rate-high", "rate-low", "swapped", "duplicates", "beta", "leak", "too-short", "over-fitting", "weak-signal",
        "trivial", "wrong-reference", "chosen-falls",
    }  # fmt: skip


def test_the_first_diagnosis_is_right_for_nine_runs_in_ten() -> None:
    """What a person reads first is the fault that was made."""
    wrong = {run.name: diagnose(run)[0].rule for run in RUNS if diagnose(run)[0].rule not in LABELS[run]["right"]}
    assert len(wrong) <= 0.1 * len(RUNS), wrong


def test_healthy_is_never_said_of_a_run_whose_held_out_accuracy_is_not_above_chance() -> None:
    """At no moment of any labelled run, those included by which no rule was written."""
    said = 0
    for run in (*RUNS, *UNSEEN_RUNS):
        whole = read_evidence(run)
        for tenth in range(1, 11):
            seen = [line for line in whole.metrics if line["step"] <= round(whole.step * tenth / 10)]
            evidence = replace(whole, metrics=seen, over=tenth == 10)
            if apply_rules(evidence)[0].rule != HEALTHY:
                continue
            said += 1
            held_out = held_out_of(evidence)
            assert held_out is not None and held_out.loss < held_out.start, run.name
            assert held_out.accuracy is None or (held_out.count >= FEW_PAIRS and held_out.above_chance), run.name
    assert said > 100


def test_runs_that_are_fine_get_no_alarm() -> None:
    alarms = {run.name: [advice.rule for advice in diagnose(run) if advice.is_problem] for run in HEALTHY_RUNS}
    assert sum(bool(rules) for rules in alarms.values()) <= 0.05 * len(HEALTHY_RUNS), alarms


def test_runs_that_are_fine_get_no_alarm_while_they_run() -> None:
    """Live: every tenth of a healthy run, as the monitor would have judged it then."""
    moments = alarms = 0
    for run in HEALTHY_RUNS:
        whole = read_evidence(run)
        for tenth in range(1, 10):
            until = round(whole.step * tenth / 10)
            seen = [line for line in whole.metrics if line["step"] <= until]
            moments += 1
            alarms += apply_rules(replace(whole, metrics=seen, over=False))[0].is_problem
    assert alarms <= 0.05 * moments


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_every_remedy_makes_a_valid_config(run: Path) -> None:
    """A remedy is a change of the config that can be started with one key."""
    loaded = load(run / "config.toml")
    for advice in diagnose(run):
        assert advice.message
        assert advice.evidence or advice.rule == TOO_EARLY
        changed = with_changes(loaded, advice.remedy, "command line").config
        assert not advice.remedy or changed != loaded.config


def curve(losses: Sequence[float], **more: Sequence[float]) -> list[dict[str, Any]]:
    return [
        {"step": place + 1, "loss": loss, **{name.replace("__", "/"): values[place] for name, values in more.items()}}
        for place, loss in enumerate(losses)
    ]


def rules(evidence: Evidence) -> list[str]:
    return [advice.rule for advice in apply_rules(evidence)]


SETTINGS = {"strategy": "dpo", "learning_rate": 5e-6, "beta": 0.1, "use_lora": True, "warmup_ratio": 0.1}
HELD_OUT_48 = {"data": {"held_out": 48}}


@pytest.mark.parametrize("broken", [math.nan, math.inf, None])
def test_a_loss_that_is_not_a_number_comes_before_all_else(broken: float | None) -> None:
    metrics = curve([0.69, 0.6, 5.0, 0.0, 0.0], rewards__accuracies=[0, 1, 1, 1, 1])
    metrics[3]["loss"] = metrics[4]["loss"] = broken
    found = apply_rules(Evidence(SETTINGS, metrics))
    assert found[0].rule == "nan"
    assert "since step 4" in found[0].message
    assert found[0].remedy["learning_rate"] == 5e-7


@pytest.mark.parametrize(
    ("last", "beginning"), [(60, "Too early to tell: step 6 of 60."), (6, "Too short to tell: all")]
)
def test_a_run_that_is_over_is_not_told_that_it_is_early(last: int, beginning: str) -> None:
    learnt = Evidence(SETTINGS, curve([0.69, 0.5, 0.3, 0.2, 0.1, 0.05]), max_steps=last)
    assert apply_rules(learnt)[0].message.startswith(beginning)


def test_what_is_unwise_in_a_config_is_told_in_80_columns(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('model_name = "m"\ndataset = "d"\nlearning_rate = 1e-3\n')
    done = CliRunner().invoke(cli, ["config", "check", str(tmp_path / "c.toml")], catch_exceptions=False)
    *lines, _ = done.stdout.splitlines()
    assert "above the usual range" in done.stdout and max(map(len, lines)) <= 80


@pytest.mark.parametrize(("strategy", "rows"), [("dpo", "pairs"), ("sft", "demonstrations")])
def test_a_run_that_is_too_short_is_told_of_the_rows_that_it_has(strategy: str, rows: str) -> None:
    evidence = Evidence(SETTINGS | {"strategy": strategy}, curve([0.69, 0.69, 0.69]), max_steps=3)
    found = next(advice for advice in apply_rules(evidence) if advice.rule == "too-short")
    assert f"learn from {rows}:" in found.message and f"on more {rows}" in found.message


def test_a_first_loss_of_zero_names_the_reference() -> None:
    """Loss 0.0 and accuracy 1.0 at once means a wrong reference."""
    metrics = curve([0.0, 0.0], rewards__accuracies=[1, 1], rewards__chosen=[9.0, 9.1], rewards__rejected=[-9.0, -9.1])
    found = apply_rules(Evidence(SETTINGS, metrics))[0]
    assert (found.rule, found.severity) == ("wrong-reference", "error")
    assert "merge its adapter" in found.message


@pytest.mark.parametrize(
    "line",
    [
        {"step": 0, "eval_loss": 2.2, "eval_rewards/margins": -1.9},
        {"step": 1, "loss": 2.6, "rewards/chosen": -2.6},
        {"step": 1, "loss": 2.6, "rewards/rejected": 2.6},
    ],
)
def test_a_start_that_is_not_at_zero_names_the_reference_whatever_was_logged(line: dict[str, Any]) -> None:
    """Held-out or training, margins or rewards, before the first update."""
    start = [{"step": 0, "eval_loss": LN2}, line] if line["step"] else [line]
    assert apply_rules(Evidence(SETTINGS, start))[0].rule == "wrong-reference"


def test_memory_that_ran_out_is_told_with_the_next_smaller_step() -> None:
    events = [{"kind": "out-of-memory", "message": "again with 1 × 8"}]
    settings = SETTINGS | {"use_4bit": True, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    found = receipt_rules.out_of_memory(Evidence(settings, events=events))
    assert found is not None
    assert found.remedy == {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
    assert receipt_rules.out_of_memory(Evidence(settings)) is None


def test_a_device_that_waits_for_its_batches_is_noticed() -> None:
    """GPU idle means data-bound."""
    waiting = {"step_seconds": [1.0] * 40, "data_seconds": [0.9] * 40}
    losses = [0.69 - 0.005 * step for step in range(40)]
    assert "data-bound" in rules(Evidence(SETTINGS, curve(losses, **waiting)))
    assert "data-bound" not in rules(Evidence(SETTINGS, curve(losses, **{**waiting, "data_seconds": [0.01] * 40})))


def test_a_spike_of_the_gradient_names_its_step() -> None:
    """One step whose gradient is far longer than those before it."""
    norms = [1.0] * 40
    norms[30] = 80.0
    losses = [0.69 - 0.005 * step for step in range(40)]
    (found,) = [
        advice for advice in apply_rules(Evidence(SETTINGS, curve(losses, grad_norm=norms))) if advice.rule == "spikes"
    ]
    assert "at step 31 to 80" in found.message


def test_kl_above_ten_is_told_once_it_is_surely_above() -> None:
    """The estimate's own error counts."""
    line = {"step": 30, "eval_kl_n": 8}
    sure = Evidence(SETTINGS, [{**line, "eval_kl": 14.0, "eval_kl_stderr": 2.0}])
    unsure = Evidence(SETTINGS, [{**line, "eval_kl": 11.0, "eval_kl_stderr": 3.0}])
    assert rules(sure) == ["kl"]
    assert "14.0 ± 2.0 nats an answer" in apply_rules(sure)[0].message
    assert rules(unsure) == [TOO_EARLY]


def test_a_kl_from_before_the_first_step_is_no_reason_to_call_a_run_healthy() -> None:
    """It is zero by definition, and later estimates may have been too dear."""
    learning = curve([0.69 - 0.005 * step for step in range(40)])
    learning += [{"step": 40, "eval_loss": 0.6, "eval_rewards/accuracies": 0.8}]
    before = {"step": 0, "eval_kl": 0.0, "eval_kl_stderr": 0.0}
    only_before = apply_rules(Evidence(SETTINGS, [before, *learning], HELD_OUT_48))
    after = {"step": 40, "eval_kl": 2.5, "eval_kl_stderr": 0.4}
    later = apply_rules(Evidence(SETTINGS, [*learning, after], HELD_OUT_48))
    assert only_before[0].rule == later[0].rule == "healthy"
    assert "KL" not in only_before[0].message
    assert "KL 2.5 ± 0.4" in later[0].message


def test_without_numbers_it_says_that_it_is_too_early(tmp_path: Path) -> None:
    """The line in the monitor always says something."""
    found = diagnose(tmp_path)
    assert [advice.rule for advice in found] == [TOO_EARLY]
    assert not found[0].is_problem


def test_a_huge_run_is_judged_from_a_part_of_its_file(tmp_path: Path) -> None:
    """Both ends and pieces between are read, not all of it; lines that are torn or odd are passed over."""
    with (tmp_path / "metrics.jsonl").open("w") as file:
        for step in range(1, 60_001):
            loss = max(LN2 - step * 1e-4, 0.4)
            line = {"step": step, "loss": loss, "rewards/margins": min(step / 1000, 1.0), "rewards/accuracies": 0.8}
            file.write(json.dumps(line) + "\n")
        file.write(json.dumps({"step": 60_000, "eval_loss": 0.45, "eval_rewards/accuracies": 0.8}) + "\n")
        file.write('[1]\n{"step": "x"}\n{"step": 70000, "lo')
    (tmp_path / "receipt.json").write_text(json.dumps(HELD_OUT_48))
    found = read_evidence(tmp_path)
    assert len(found.metrics) < 20_000
    assert (found.metrics[0]["step"], found.step) == (1, 60_000)
    assert apply_rules(found)[0].rule == HEALTHY


def test_steps_that_a_resume_took_again_count_once(tmp_path: Path) -> None:
    lines = [
        {"step": 1, "loss": 0.7},
        {"step": 2, "loss": 9.0},
        {"step": 2, "loss": 0.6},
        {"step": 2, "eval_loss": 0.5},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_evidence(tmp_path).values("loss") == [0.7, 0.6]
    assert read_evidence(tmp_path).values("eval_loss") == [0.5]


def test_status_tells_the_diagnosis(home: Path) -> None:
    """`dpo-tui status` shows the worst one, in words and as JSON."""
    config = from_values({"model_name": "m", "dataset": "d", "learning_rate": 5e-7})
    folder = store.create(to_toml(config), name="flat", devices=[])
    folder.state.write_text(json.dumps({**json.loads(folder.state.read_text()), "status": "done"}))
    metrics = curve([LN2] * 40, rewards__margins=[1e-5] * 40, rewards__accuracies=[0.5] * 40)
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in metrics))
    advice = json.loads(CliRunner().invoke(cli, ["status", "flat", "--json"], catch_exceptions=False).stdout)["advice"]
    assert (advice["rule"], advice["severity"], advice["remedy"]) == ("rate-low", "warning", {"learning_rate": 5e-6})
    output = CliRunner().invoke(cli, ["status", "flat"], catch_exceptions=False).stdout
    assert "advice: Stuck at 0.6931" in output
    assert "try: learning_rate = 5e-6" in output
    assert f"dpo-tui config fix {folder.id}" in output


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_steps": 6, "num_train_epochs": 3.0}, {"max_steps": None}),
        ({"num_train_epochs": 1.0}, {"num_train_epochs": 3.0}),
        ({"num_train_epochs": 3.0, "gradient_accumulation_steps": 8},
         {"num_train_epochs": 4.0, "gradient_accumulation_steps": 2}),
        ({"num_train_epochs": 4.0, "gradient_accumulation_steps": 1}, {}),
        ({"num_train_epochs": 4.0, "gradient_accumulation_steps": 1, "learning_rate": 5e-7}, {"learning_rate": 5e-6}),
    ],
)  # fmt: skip
def test_a_remedy_names_only_what_differs_from_the_run(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    """Six steps of three epochs are not mended by three epochs, nor by a rate that hardly moves an adapter."""
    found = apply_rules(Evidence(SETTINGS | settings, curve([0.69] * 6), max_steps=6))[0]
    assert (found.rule, dict(found.remedy)) == ("too-short", expected)


def test_a_rate_that_is_the_lowest_already_is_not_offered_again() -> None:
    broken = curve([0.69, math.nan])
    found = apply_rules(Evidence(SETTINGS | {"learning_rate": 1e-7}, broken))[0]
    assert found.rule == "nan" and not found.remedy


def flat_run(name: str = "flat") -> RunFolder:
    """A run that is done and did not move, at a rate that is right for billions of weights."""
    config = from_values({"model_name": "m", "dataset": "d", "learning_rate": 5e-7, "lora_alpha": 32, "name": name})
    folder = store.create(to_toml(config), name=name, devices=[])
    metrics = curve([LN2] * 40, rewards__margins=[1e-5] * 40, rewards__accuracies=[0.5] * 40)
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in metrics))
    return folder


def test_one_command_makes_the_config_that_the_advice_asks_for(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remedy, one command away: a new file, which differs in what the advice named and in its name."""
    folder = flat_run()
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["config", "fix", "flat"], catch_exceptions=False)
    assert done.stdout.strip() == "flat-2.toml"
    assert "Stuck at 0.6931" in done.stderr
    assert "dpo-tui train flat-2.toml" in done.stderr
    before, after = load(folder.config).config.model_dump(), load(tmp_path / "flat-2.toml").config.model_dump()
    changed = {name: value for name, value in after.items() if value != before[name]}
    assert changed == {"learning_rate": 5e-6, "name": "flat-2"}
    with pytest.raises(UsageError, match="exists already"):
        CliRunner().invoke(cli, ["config", "fix", "flat"], catch_exceptions=False)


def test_what_no_setting_mends_is_said_and_nothing_is_written(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = flat_run("swapped")
    shutil.copytree(next(run for run in RUNS if run.name.startswith("swapped-1")), folder.path, dirs_exist_ok=True)
    with pytest.raises(RunError, match="no setting mends it"):
        CliRunner().invoke(cli, ["config", "fix", folder.id], catch_exceptions=False)
    fine = flat_run("fine")
    shutil.copytree(HEALTHY_RUNS[0], fine.path, dirs_exist_ok=True)
    with pytest.raises(RunError, match="nothing to mend"):
        CliRunner().invoke(cli, ["config", "fix", fine.id], catch_exceptions=False)
    assert not list(tmp_path.glob("*.toml"))


@pytest.mark.parametrize(
    ("name", "following"), [("toy", "toy-2"), ("toy-2", "toy-3"), ("x" * 64, "x" * 62 + "-2"), ("a-b", "a-b-2")]
)
def test_the_next_try_has_a_name_of_its_own(name: str, following: str) -> None:
    assert next_name(name) == following


def test_every_remedy_of_the_labelled_runs_can_be_written_and_read_back(tmp_path: Path) -> None:
    """Settings that a remedy leaves out, such as max_steps, are left out of the file, too."""
    made = 0
    for run in RUNS:
        if not diagnose(run)[0].remedy:
            continue
        config, advice = config_with_remedy(run)
        (tmp_path / "next.toml").write_text(to_toml(config))
        again = load(tmp_path / "next.toml").config
        made += 1
        for name, value in advice.remedy.items():
            assert getattr(again, name) == (value if value is not None else fields()[name].default)
    assert made >= 10


def test_every_rule_is_quiet_on_nothing() -> None:
    """A rule must not fall over a run that has only begun, or that some other trainer wrote."""
    for rule in RULES:
        assert rule(Evidence()) is None
        assert rule(Evidence({"learning_rate": "?"}, [{"step": 0}, {"step": 1, "loss": 0.7}])) is None
