"""A remedy changes what the training does, or is not offered: every rule, on the settings of every labelled run."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.advice.advice import Advice
from dpo_tui.advice.diagnose import RULES, apply_rules, diagnose
from dpo_tui.advice.evidence import Evidence
from dpo_tui.advice.remedies import config_with_remedy
from dpo_tui.config.files import LoadedConfig, load, with_changes
from dpo_tui.config.problems import InvalidConfigError
from dpo_tui.errors import RunError
from dpo_tui.views import run_plan

RUNS = sorted(path.parent for path in (Path(__file__).parents[1]).glob("advice_runs*/*/label.json"))
STEPS = 40
WAITS = {"step_seconds": 1.0, "data_seconds": 2.0}
FLAT = {
    "loss": 0.6931,
    "rewards/margins": 1e-6,
    "rewards/accuracies": 0.5,
    "rewards/chosen": 0.0,
    "logps/chosen": -50.0,
}
COUNTS = {"train": 640, "held_out": 48, "rows": 700}
STAGED: Mapping[str, Mapping[str, Any]] = {
    "nan": {"metrics": {"loss": math.nan}},
    "rate-low": {"metrics": FLAT},
    "too-short": {"metrics": FLAT, "steps": 8},
    "rate-high": {"metrics": FLAT | {"loss": 30.0}},
    "kl": {"metrics": {"eval_kl": 90.0, "eval_kl_stderr": 2.0, "eval_kl_n": 8}},
    "data-bound": {"metrics": FLAT | WAITS},
    "chosen-falls": {"metrics": {**FLAT, "loss": 0.1, "rewards/accuracies": 0.9}, "falls": True},
    "over-fitting": {"metrics": {**FLAT, "loss": 0.01}, "rises": True},
    "spikes": {"metrics": FLAT, "spike": True},
    "leak": {"event": {"rule": "leak", "rows": 40, "of": 48}},
    "duplicates": {"event": {"rule": "duplicates", "rows": 400, "of": 640}},
    "answers-cut": {"event": {"rule": "answers-cut", "rows": 400, "of": 640}},
    "no-end-token": {"event": {"rule": "no-end-token", "kind": "warning", "message": "chat template: no end"}},
    "out-of-memory": {"event": {"kind": "out-of-memory", "message": "again with 1 × 8"}},
    "dropped-rows": {"receipt": {"too_long": 300}},
}
"""What makes a rule apply to any settings."""
CHANGES: tuple[Mapping[str, Any], ...] = (
    {},
    {"warmup_steps": 5},
    {"max_steps": None, "num_train_epochs": 3.0},
    {"max_steps": None, "num_train_epochs": 8.0},
    {"max_steps": 8},
    {"eval_split": 0.0},
    {"learning_rate": 1e-7},
    {"learning_rate": 1e-7, "use_lora": False},
    {"beta": 1.0},
    {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8, "dataloader_num_workers": 4},
    {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]},
)
"""Settings beside those of a run; the last ones have already what a remedy would set."""


def staged(settings: Mapping[str, Any], stage: Mapping[str, Any]) -> Evidence:
    """A run with some settings to which one rule applies."""
    steps = stage.get("steps", STEPS)
    lines: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        line = {"step": step, **stage.get("metrics", FLAT)}
        if stage.get("falls"):
            line["rewards/chosen"] = -2.0 * step * settings.get("beta", 0.1)
        if stage.get("spike"):
            line["grad_norm"] = 900.0 if step in (30, 33, 36) else 1.0
            line["loss"] = 0.69 if step < 30 else 3.0
        lines.append(line)
        if stage.get("rises") and step % 10 == 0:
            lines.append({"step": step, "eval_loss": 0.5 + step / 10})
    events = [stage["event"]] if "event" in stage else []
    receipt = {"data": COUNTS | stage.get("receipt", {}), "effective_batch": 8}
    return Evidence(settings, lines, receipt, events, max_steps=steps, over=True)


def effective(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those that another one puts out of force, and without the name."""
    found = {name: value for name, value in settings.items() if name != "name"}
    if found.get("max_steps") is not None:
        found.pop("num_train_epochs", None)
    if found.get("warmup_steps") is not None:
        found.pop("warmup_ratio", None)
    if found.get("eval_dataset") is not None:
        found.pop("eval_split", None)
    if not found.get("use_lora", True):
        found = {name: value for name, value in found.items() if not name.startswith("lora_")}
    return found


def changed_by(advice: Advice, loaded: LoadedConfig) -> set[str]:
    """Names of the settings in force that a remedy changes."""
    before = effective(loaded.config.model_dump())
    after = effective(with_changes(loaded, advice.remedy, "command line").config.model_dump())
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


def different_settings() -> list[Path]:
    """One labelled run for each strategy, loss and kind of length, so that settings are not tried twice."""
    seen: dict[tuple[Any, ...], Path] = {}
    for run in RUNS:
        config = load(run / "config.toml").config
        steps = config.max_steps is None
        key = (config.strategy, tuple(config.loss_type), steps, config.use_lora, config.eval_dataset is None)
        seen.setdefault(key, run)
    return list(seen.values())


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_no_remedy_of_a_labelled_run_leaves_its_training_as_it_was(run: Path) -> None:
    """The first advice with its command and its key in the app, and all the others."""
    loaded = load(run / "config.toml")
    found = diagnose(run)
    for advice in found:
        assert not advice.remedy or changed_by(advice, loaded), advice
    if not found[0].remedy:
        with pytest.raises(RunError):
            config_with_remedy(run)
        return
    mended, advice = config_with_remedy(run)
    assert effective(mended.model_dump()) != effective(loaded.config.model_dump())
    plan = run_plan.with_remedy(run_plan.with_file(run_plan.RunPlan(), run / "config.toml"), advice.remedy)
    assert not plan.problems
    assert effective(plan.config.model_dump()) == effective(mended.model_dump()), "the app does what the command does"


@pytest.mark.parametrize("rule", STAGED)
def test_every_rule_offers_changes_only_whatever_the_run_has_already(rule: str) -> None:
    tried = 0
    for run in different_settings():
        loaded = load(run / "config.toml")
        for changes in CHANGES:
            try:
                before = with_changes(loaded, changes, "command line")
            except InvalidConfigError:
                continue  # no run has these settings
            # As a run's own file has them: a setting that is not set is not in it.
            settings = {name: value for name, value in before.config.model_dump().items() if value is not None}
            found = apply_rules(staged(settings, STAGED[rule]))
            for advice in found:
                assert not advice.remedy or changed_by(advice, before), (run.name, dict(changes), advice)
            tried += any(advice.rule == rule for advice in found)
    assert tried, f"{rule} applied to no settings"


def test_a_remedy_never_shortens_the_warm_up_or_ends_the_evaluation() -> None:
    """A warm-up in steps is as long as they say, and without an evaluation file a share is held out."""
    loaded = load(next(run for run in RUNS if run.name == "healthy-plain-s2") / "config.toml")
    for rule, changes, expected in (
        ("spikes", {"warmup_steps": 30}, None),
        ("spikes", {"warmup_steps": 2}, 0.2),
        ("rate-high", {"warmup_steps": 30}, None),
        ("rate-high", {"warmup_steps": 2}, 0.1),
    ):
        settings = with_changes(loaded, changes, "command line").config.model_dump()
        found = next(advice for advice in apply_rules(staged(settings, STAGED[rule])) if advice.rule == rule)
        assert found.remedy.get("warmup_ratio") == expected, (rule, changes)
    settings = with_changes(loaded, {"eval_split": 0.0}, "command line").config.model_dump()
    leak = next(advice for advice in apply_rules(staged(settings, STAGED["leak"])) if advice.rule == "leak")
    mended = with_changes(loaded, {"eval_split": 0.0} | leak.remedy, "command line").config
    assert mended.eval_dataset is None and mended.eval_split > 0


def test_the_staged_rules_are_all_that_have_a_remedy() -> None:
    """The others only say where to look: a remedy of theirs would not have been tried here."""
    without = {"broken-base", "wrong-reference", "swapped", "trivial", "weak-signal", "length"}
    tried_on_runs = {"beta"}
    names = {advice.rule for run in RUNS for advice in diagnose(run) if advice.remedy}
    assert names <= {*STAGED, *tried_on_runs}
    assert not names & without
    assert len(RULES) == len({*STAGED, *without, *tried_on_runs})
