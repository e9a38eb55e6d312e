"""ORPO, SimPO and CPO as descriptions: their defaults, what they refuse before a start, estimate and advice."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dpo_tui.advice.config_rules import advise
from dpo_tui.advice.diagnose import apply_rules
from dpo_tui.advice.evidence import Evidence
from dpo_tui.cli import cli
from dpo_tui.config import library_fields, passthrough
from dpo_tui.config.files import LoadedConfig, from_values, with_changes
from dpo_tui.config.problems import InvalidConfigError
from dpo_tui.config.schema import Config
from dpo_tui.config.toml_text import to_toml
from dpo_tui.hardware.duration import flops_per_token
from dpo_tui.hardware.memory.memory_estimate import estimate
from dpo_tui.hardware.models.lookup import architecture_of
from dpo_tui.strategies.cpo import CPO, SIMPO
from dpo_tui.strategies.metric_expectations import LN2
from dpo_tui.strategies.orpo import ORPO
from dpo_tui.strategies.registry import recognise
from dpo_tui.strategies.strategy import Strategy
from tests.support.training import make_config

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
STRATEGIES = [ORPO, SIMPO, CPO]


def config(**values: Any) -> Config:
    return from_values({"model_name": MODEL, "dataset": "pairs.jsonl", **values})


@pytest.mark.parametrize(
    ("strategy", "beta", "gamma", "alpha"),
    [("dpo", 0.1, None, None), ("orpo", 0.1, None, None), ("simpo", 2.0, 1.0, 0.0), ("cpo", 0.1, None, 1.0)],
)
def test_each_strategy_has_defaults_of_its_own(
    strategy: str, beta: float, gamma: float | None, alpha: float | None
) -> None:
    made = config(strategy=strategy)
    assert (made.beta, made.simpo_gamma, made.cpo_alpha) == (beta, gamma, alpha)
    assert from_values({**config(strategy=strategy).model_dump()}) == made, "frozen and read again"


def test_another_strategy_brings_its_defaults_and_leaves_what_somebody_chose() -> None:
    loaded = LoadedConfig(config())
    assert with_changes(loaded, {"strategy": "simpo"}, "command line").config.beta == 2.0
    back = with_changes(LoadedConfig(config(strategy="simpo")), {"strategy": "dpo"}, "command line").config
    assert (back.beta, back.simpo_gamma, back.cpo_alpha) == (0.1, None, None)
    chosen = LoadedConfig(config(beta=0.7))
    assert with_changes(chosen, {"strategy": "simpo"}, "command line").config.beta == 0.7


@pytest.mark.parametrize(
    ("values", "key", "said"),
    [
        ({"strategy": "orpo", "loss_type": ["ipo"]}, "loss_type", "does nothing with strategy = orpo"),
        ({"strategy": "simpo", "loss_type": ["hinge"]}, "loss_type", "does nothing with strategy = simpo"),
        ({"strategy": "cpo", "loss_type": ["sigmoid", "sft"]}, "loss_type", "must be one of sigmoid, hinge, ipo alone"),
        ({"strategy": "cpo", "loss_type": ["robust"]}, "loss_type", "must be one of"),
        ({"strategy": "cpo", "loss_type": ["hinge"], "label_smoothing": 0.1}, "label_smoothing", "does nothing"),
        ({"strategy": "orpo", "label_smoothing": 0.1}, "label_smoothing", "does nothing"),
        ({"strategy": "cpo", "simpo_gamma": 0.5}, "simpo_gamma", "does nothing with strategy = cpo"),
        ({"strategy": "orpo", "cpo_alpha": 0.5}, "cpo_alpha", "does nothing with strategy = orpo"),
        ({"strategy": "dpo", "cpo_alpha": 0.5}, "cpo_alpha", "does nothing with strategy = dpo"),
        ({"strategy": "sft", "simpo_gamma": 0.5}, "simpo_gamma", "does nothing with strategy = sft"),
        ({"strategy": "simpo", "precompute_ref_log_probs": "on"}, "precompute_ref_log_probs", "does nothing"),
        ({"strategy": "orpo", "sync_ref_model": True, "use_lora": False}, "sync_ref_model", "does nothing"),
        ({"strategy": "cpo", "kl_stop": 3.0}, "kl_stop", "does nothing"),
        ({"strategy": "simpo", "ld_alpha": 0.5}, "ld_alpha", "does nothing"),
        ({"strategy": "orpo", "provider": "unsloth"}, "provider", "cannot train strategy = orpo"),
    ],
)
def test_what_would_do_nothing_or_cannot_work_is_refused(values: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(InvalidConfigError) as refused:
        config(**values)
    problem = next(problem for problem in refused.value.problems if problem.key == key)
    assert said in problem.message


@pytest.mark.parametrize(
    "values",
    [
        {"strategy": "simpo", "label_smoothing": 0.1},
        {"strategy": "cpo", "label_smoothing": 0.1},
        {"strategy": "cpo", "loss_type": ["ipo"], "cpo_alpha": 0.0},
        {"strategy": "orpo", "router_aux_loss_coef": 0.1, "disable_dropout": False, "activation_offloading": True},
        {"strategy": "sft", "beta": 0.3, "precompute_ref_log_probs": "on"},
    ],
)
def test_what_can_be_right_is_not(values: dict[str, Any]) -> None:
    assert config(**values).strategy == values["strategy"]


@pytest.mark.parametrize(
    "key", ["generate_during_eval", "max_completion_length", "is_encoder_decoder", "padding_value"]
)
def test_arguments_of_trls_class_that_nothing_would_read_are_refused(key: str) -> None:
    strategy = "orpo" if key == "padding_value" else "cpo"
    made = config(strategy=strategy, trl={key: True if key[1] == "e" else 8})
    assert [problem.key for problem in passthrough.passthrough_problems(made)] == [f"trl.{key}"]


def test_alpha_of_alphapo_is_passed_on_to_cpo_and_not_to_dpo() -> None:
    assert not passthrough.passthrough_problems(config(strategy="simpo", trl={"alpha": 0.25}))
    assert passthrough.passthrough_problems(config(strategy="dpo", trl={"alpha": 0.25}))


def test_a_trl_without_the_trainer_is_named_before_a_run_is_made(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trl").mkdir()
    monkeypatch.setattr(library_fields, "package_root", lambda *_: tmp_path / "trl")
    path = tmp_path / "config.toml"
    path.write_text(to_toml(make_config(tiny_model, tiny_pairs, strategy="orpo")), encoding="utf-8")
    for command in ("check", "train"):
        arguments = ["config", "check", str(path)] if command == "check" else ["train", str(path), "--detach"]
        result = CliRunner().invoke(cli, arguments)
        said = " ".join(f"{result.output} {result.exception}".split())
        assert "the installed TRL has no trainer for it (trl/experimental/orpo)" in said
    assert not list((home / "runs").glob("*")) if (home / "runs").exists() else True


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.name)
def test_without_a_reference_there_is_less_to_hold_and_to_compute(strategy: Strategy) -> None:
    arch = architecture_of(MODEL)
    for shape in ({"use_lora": False}, {"use_4bit": True}):
        ours, dpo = config(strategy=strategy.name, **shape), config(**shape)
        found = estimate(ours, arch)
        assert found.part("reference_model") == 0
        assert not {phase.name for phase in found.phases} & {"reference pass", "precompute pass"}
        assert found.total <= estimate(dpo, arch).total
        assert flops_per_token(ours, arch) < flops_per_token(dpo, arch)
        assert any(note.startswith("no reference") for note in found.notes)
        assert not any(note.startswith("no reference") for note in estimate(dpo, arch).notes)
    whole = estimate(config(strategy=strategy.name, use_lora=False), arch).total
    assert whole < 0.85 * estimate(config(use_lora=False), arch).total, "the copy of the model"


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.name)
def test_a_run_of_it_is_recognised_by_what_it_logs(strategy: Strategy) -> None:
    found = recognise(metric.name for metric in strategy.metrics)
    assert found is (SIMPO if strategy is CPO else strategy), "CPO and SimPO log the same"


def test_where_the_losses_start_depends_on_the_model_and_simpos_scale_on_its_margin() -> None:
    assert all(strategy.start_loss(config(strategy=strategy.name).model_dump()) is None for strategy in STRATEGIES)
    scale = SIMPO.loss_scale(config(strategy="simpo", simpo_gamma=0.0).model_dump())
    assert scale is not None and scale.unit == pytest.approx(1.0)
    wider = SIMPO.loss_scale(config(strategy="simpo").model_dump())
    assert wider is not None and wider.unit == pytest.approx(math.log(1 + math.e) / LN2)
    for values in ({"cpo_alpha": 0.5}, {"label_smoothing": 0.1}, {"trl": {"alpha": 0.2}}):
        assert SIMPO.loss_scale(config(strategy="simpo", **values).model_dump()) is None


@pytest.mark.parametrize(
    ("values", "advised"),
    [
        ({"strategy": "simpo", "beta": 0.1}, "2.0 to 2.5 is usual for SimPO"),
        ({"strategy": "orpo", "beta": 5.0}, "hardly weighs the fine-tuning"),
        ({"strategy": "cpo", "beta": 5.0}, "0.1 is usual"),
        ({"strategy": "simpo", "learning_rate": 1e-4}, "above the usual range for SimPO"),
    ],
)
def test_unusual_settings_are_named_in_words_of_the_method(values: dict[str, Any], advised: str) -> None:
    said = [advice.message for advice in advise(config(**values))]
    assert any(advised in message for message in said)
    assert not any(re.search(r"\breference\b", message) for message in said)


def test_the_loss_depends_on_the_micro_batch_where_a_mean_over_its_tokens_is_in_it() -> None:
    def changes(strategy: Strategy, **values: Any) -> bool:
        return strategy.micro_batch_changes_loss(config(strategy=strategy.name, **values).model_dump())

    assert changes(ORPO) and changes(CPO) and changes(SIMPO, cpo_alpha=0.1)
    assert not changes(SIMPO) and not changes(CPO, cpo_alpha=0.0)


def test_log_probabilities_that_stay_are_not_a_policy_thrown_far() -> None:
    """Without a reference, β · log π is hundreds of nats before the first step already."""
    curve = [
        {"step": step, "loss": 4.0 - step / 100, "rewards/chosen": -20.0, "rewards/rejected": -19.0,
         "rewards/margins": -1.0, "rewards/accuracies": 0.3, "logps/chosen": -200.0, "logps/rejected": -190.0}
        for step in range(1, 61)
    ]  # fmt: skip
    rules = {one.rule for one in apply_rules(Evidence({"strategy": "cpo", "beta": 0.1, "learning_rate": 1e-6}, curve))}
    assert "rate-high" not in rules
    thrown = [{**line, "rewards/chosen": -20.0 - 1.0 * line["step"]} for line in curve]
    rules = {one.rule for one in apply_rules(Evidence({"strategy": "cpo", "beta": 0.1, "learning_rate": 1e-3}, thrown))}
    assert "rate-high" in rules


def of_demo(strategy: str, accuracies: tuple[float, float], losses: tuple[float, float]) -> Evidence:
    """Fifty steps of a run on 87 held-out pairs, from the first value of each to the second."""

    def at(ends: tuple[float, float], step: int) -> float:
        return ends[0] + (ends[1] - ends[0]) * step / 50

    curve = [
        {"step": step, "loss": at(losses, step), "rewards/accuracies": at(accuracies, step),
         "rewards/margins": at((-0.2, 0.2), step), "rewards/chosen": -3.0, "rewards/rejected": -3.0}
        for step in range(1, 51)
    ]  # fmt: skip
    evaluations = [
        {"step": step, "eval_loss": at(losses, step), "eval_rewards/accuracies": at(accuracies, step)}
        for step in (0, 25, 50)
    ]
    settings = {"strategy": strategy, "beta": 0.1, "learning_rate": 1e-3}
    return Evidence(settings, [evaluations[0], *curve, *evaluations[1:]], {"data": {"held_out": 87}}, max_steps=50)


def test_ranking_by_likelihood_is_judged_from_where_it_began() -> None:
    """Figures of the demo's pairs: CPO begins far below a coin, by length, and SimPO far above it."""
    risen = apply_rules(of_demo("cpo", (0.235, 0.588), (0.93, 0.765)))
    assert [one.rule for one in risen] == ["healthy"]
    perfect = apply_rules(of_demo("simpo", (0.97, 1.0), (0.95, 0.01)))
    assert [one.rule for one in perfect] == ["healthy"], "that all pairs are right makes them not trivial"
    nothing = apply_rules(of_demo("simpo", (0.97, 0.97), (0.95, 0.948)))
    assert nothing[0].rule != "healthy", "the model ranked them so before"
