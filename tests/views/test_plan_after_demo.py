"""The demo's settings, which suit its toy model, do not stay for a real model or real data."""

from pathlib import Path

from dpo_tui.demo import assets
from dpo_tui.views import run_plan as plans
from dpo_tui.views.run_plan import RunPlan

OF_DEMO = {
    "learning_rate",
    "beta",
    "max_seq_length",
    "max_steps",
    "per_device_train_batch_size",
    "name",
    "eval_dataset",
}


def fresh() -> RunPlan:
    return plans.with_profile(RunPlan(), "12gb", {"use_4bit": False, "max_seq_length": 768})


def test_another_model_and_other_data_after_the_demo_make_the_plan_of_a_fresh_app(tmp_path: Path) -> None:
    chosen = {"model_name": str(tmp_path / "model"), "dataset": str(tmp_path / "pairs.jsonl")}
    after_demo = plans.with_demo(fresh())
    assert after_demo.config.max_steps is not None and after_demo.config.learning_rate > 1e-4
    for order in (chosen, dict(reversed(chosen.items()))):
        plan = after_demo
        for name, value in order.items():
            plan = plans.with_values(plan, {name: value})
        expected = plans.with_values(fresh(), chosen)
        assert plan.config.model_dump(include=OF_DEMO) == expected.config.model_dump(include=OF_DEMO)
        assert plan == expected


def test_another_model_alone_keeps_the_demos_pairs_with_those_that_are_held_out(tmp_path: Path) -> None:
    plan = plans.with_values(plans.with_demo(fresh()), {"model_name": str(tmp_path / "model")})
    assert (plan.config.dataset, plan.config.eval_dataset) == (str(assets.pairs_file()), str(assets.heldout_file()))
    assert plan.config.max_steps is None and plan.config.name is None
    other = plans.with_values(plan, {"dataset": str(tmp_path / "pairs.jsonl")})
    assert other.config.eval_dataset is None


def test_what_the_user_changed_stays_and_a_change_within_the_demo_keeps_it(tmp_path: Path) -> None:
    changed = plans.with_values(plans.with_demo(fresh()), {"lora_r": 8, "beta": 0.3})
    assert changed.file == assets.config_file()
    left = plans.with_values(changed, {"model_name": str(tmp_path / "model")})
    assert (left.config.lora_r, left.config.beta, left.file) == (8, 0.3, None)
