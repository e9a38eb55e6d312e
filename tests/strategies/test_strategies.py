"""A strategy is described in one place: nothing else asks for its name, and another one needs nothing else changed."""

import ast
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.advice.config_rules import advise
from dpo_tui.advice.diagnose import apply_rules
from dpo_tui.advice.evidence import Evidence
from dpo_tui.cli.estimate_result import EstimateResult
from dpo_tui.cli.estimate_text import result_lines
from dpo_tui.config.files import from_values
from dpo_tui.config.problems import InvalidConfigError
from dpo_tui.config.schema import Config, choices, fields
from dpo_tui.data.pair_sizes import pair_sizes
from dpo_tui.errors import ConfigError, TrainingError
from dpo_tui.hardware.duration import flops_per_token
from dpo_tui.hardware.memory.expected_range import expected_range_note
from dpo_tui.hardware.memory.fit import smaller_batches
from dpo_tui.hardware.memory.memory_estimate import GB, estimate, workload
from dpo_tui.hardware.models.lookup import architecture_of
from dpo_tui.judging.run_prompts import run_prompts
from dpo_tui.runs.comparison import RESULTS
from dpo_tui.strategies.dpo import DPO
from dpo_tui.strategies.kto import KTO
from dpo_tui.strategies.metric_expectations import LN2, PREFERENCE_METRICS, Metric
from dpo_tui.strategies.registry import STRATEGIES, by_name, names, recognise, strategy_in
from dpo_tui.strategies.sft import SFT
from dpo_tui.strategies.strategy import DataForm, Strategy
from tests.support.repository import ROOT
from tests.support.tiny import make_pairs
from tests.support.training import losses, make_config, make_run, train

PACKAGE = ROOT / "dpo_tui"
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
# Where the names of strategies may be written: their descriptions, and the words of other tools' files.
NAMING = ("strategies/", "config/dialects/")

ODDS = Strategy(
    name="odds",
    title="Odds",
    method="a method made up for this test",
    summary="trains on preference pairs, without a reference",
    data=DataForm.PAIRS,
    sequences_per_example=2,
    metrics=(*PREFERENCE_METRICS, Metric("nll_loss"), Metric("log_odds_ratio")),
    loss_summary=lambda settings: f"λ {settings['beta']:g}",
)


@pytest.fixture
def odds(monkeypatch: pytest.MonkeyPatch) -> Strategy:
    """A strategy like ORPO, added by one row of the registry."""
    monkeypatch.setitem(STRATEGIES, ODDS.name, ODDS)
    return ODDS


def config(**values: Any) -> Config:
    return from_values({"model_name": MODEL, "dataset": "pairs.jsonl", **values})


def asks_for_a_strategy(node: ast.expr) -> bool:
    """Whether an expression is a config's strategy: ``.strategy``, ``["strategy"]`` or ``.get("strategy", …)``."""
    if isinstance(node, ast.Attribute):
        return node.attr == "strategy"
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and node.slice.value == "strategy"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
        return isinstance(node.args[0], ast.Constant) and node.args[0].value == "strategy"
    return False


def decisions_by_name(tree: ast.AST) -> Iterator[int]:
    """Yield the lines on which something is decided by the name of a strategy."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            texts = {part.value for side in sides for part in ast.walk(side) if isinstance(part, ast.Constant)}
            is_missing = isinstance(sides[-1], ast.Constant) and sides[-1].value is None
            if (any(map(asks_for_a_strategy, sides)) and not is_missing) or texts & {DPO.name, SFT.name}:
                yield node.lineno
        elif isinstance(node, ast.Match) and asks_for_a_strategy(node.subject):
            yield node.lineno
        elif isinstance(node, ast.Dict):
            keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
            if keys >= {DPO.name, SFT.name}:
                yield node.lineno


@pytest.mark.parametrize(
    "code",
    [
        'config.strategy == "dpo"',
        'run.settings.get("strategy", "dpo") != "x"',
        'settings["strategy"] in ("a", "b")',
        'kind == "sft"',
        'match config.strategy:\n    case "dpo": pass',
        '{"sft": 1, "dpo": 2}[name]',
    ],
)
def test_a_decision_by_the_name_of_a_strategy_is_found(code: str) -> None:
    assert list(decisions_by_name(ast.parse(code)))


def test_nothing_outside_the_descriptions_decides_by_the_name_of_a_strategy() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if not str(path.relative_to(PACKAGE)).startswith(NAMING)
        for line in decisions_by_name(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, "ask dpo_tui.strategies.registry.strategy_of(config) instead"


def test_every_strategy_has_a_trainer() -> None:
    from dpo_tui.train.trainer.trainer_registry import TRAINERS

    assert TRAINERS.keys() == STRATEGIES.keys()


def test_every_strategy_judges_its_loss_and_labels_what_it_judges() -> None:
    for strategy in STRATEGIES.values():
        assert "loss" in {metric.name for metric in strategy.judged_metrics}
        assert all(metric.label for metric in strategy.judged_metrics)


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    known = ", ".join(names())
    assert known.startswith("dpo, sft, ")
    with pytest.raises(ConfigError, match=rf"'ppo': must be one of {known}"):
        by_name("ppo")
    with pytest.raises(InvalidConfigError, match=rf"must be one of {known}; did you mean dpo\?"):
        config(strategy="dpoo")


def test_settings_of_a_folder_that_name_no_known_strategy_have_none() -> None:
    """A newer version may have made the run: its advice is then what holds for any strategy."""
    assert strategy_in({}) is DPO
    assert strategy_in({"strategy": "of tomorrow"}) is None
    assert Evidence({"strategy": "of tomorrow"}).loss_scale is None
    assert apply_rules(Evidence({"strategy": "of tomorrow"}, [{"step": 1, "loss": math.nan}]))[0].rule == "nan"


@pytest.mark.parametrize(
    ("logged", "expected"),
    [
        ({"loss"}, SFT),
        ({"loss", "entropy", "mean_token_accuracy"}, SFT),
        ({"loss", "entropy", "mean_token_accuracy", "rewards/margins"}, DPO),
        ({"loss", "eval_rewards/accuracies"}, DPO),
        ({metric.name for metric in PREFERENCE_METRICS}, DPO),
        ({metric.name for metric in PREFERENCE_METRICS} | {"log_odds_ratio"}, ODDS),
        ({"loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "kl_term", "num_tokens"}, KTO),
        ({metric.name for metric in KTO.metrics} - {"aux_loss", "kl_term"} | {"kl"}, KTO),
        (set(), SFT),
    ],
)
def test_a_strategy_is_recognised_by_what_its_trainer_logs(
    odds: Strategy, logged: set[str], expected: Strategy
) -> None:
    assert recognise(logged) is expected


def test_the_sigmoid_loss_starts_at_the_logarithm_of_two_and_others_elsewhere() -> None:
    assert DPO.start_loss({}) == DPO.start_loss({"loss_type": ["sigmoid"], "beta": 5}) == LN2
    assert DPO.start_loss({"loss_type": ["ipo"]}) == pytest.approx(25)
    assert DPO.start_loss({"loss_type": ["of tomorrow"]}) is None
    assert SFT.start_loss({}) is None


def test_the_reference_is_scored_in_every_step_unless_it_was_scored_before() -> None:
    assert [DPO.scores_reference_in_steps(setting) for setting in ("auto", "off", "on")] == [True, True, False]
    assert not SFT.scores_reference_in_steps("off")
    always = replace(DPO, reference_scored_once=False)
    assert always.scores_reference_in_steps("on")


def test_runs_are_compared_by_what_strategies_judge() -> None:
    assert [(name, words, more) for name, words, more in RESULTS][:3] == [
        ("eval_rewards/accuracies", "held-out accuracy", True),
        ("eval_loss", "held-out loss", False),
        ("eval_rewards/margins", "held-out margin", True),
    ]


def test_a_smaller_micro_batch_is_called_another_training_where_the_loss_sorts_the_batch() -> None:
    def words(**values: Any) -> list[str]:
        return [said for _, said in smaller_batches(config(per_device_train_batch_size=2, **values))]

    assert words() == ["micro-batch 1 × accumulation 8 (still 8 pairs a step)"]
    assert words(loss_type=["aot"]) == [
        "micro-batch 1 × accumulation 8 (still 8 pairs a step; the loss is taken over fewer at once)"
    ]


def test_fine_tuning_on_demonstrations_has_no_pass_for_a_reference() -> None:
    arch = architecture_of(MODEL)
    moments = {phase.name for phase in estimate(config(strategy="sft"), arch).phases}
    assert not moments & {"reference pass", "precompute pass"}
    larger = config(strategy="sft", precompute_ref_batch_size=64)
    assert estimate(larger, arch).total == estimate(config(strategy="sft"), arch).total


def test_a_new_strategy_is_a_value_of_the_config(odds: Strategy) -> None:
    assert config(strategy="odds").strategy == "odds"
    assert choices(fields()["strategy"]) == ("dpo", "sft", "kto", "orpo", "simpo", "cpo", "odds"), "what forms offer"
    with pytest.raises(InvalidConfigError, match=r"must be one of dpo, sft, .*, odds; did you mean odds\?"):
        config(strategy="oddz")


def test_without_its_row_it_is_refused() -> None:
    with pytest.raises(InvalidConfigError, match="must be one of dpo, sft, kto"):
        config(strategy="odds")


def test_a_new_strategy_without_a_reference_is_estimated_without_one(odds: Strategy) -> None:
    arch = architecture_of(MODEL)
    whole = {"use_lora": False, "use_4bit": False}
    ours, dpo = config(strategy="odds", **whole), config(**whole)
    found = estimate(ours, arch)
    assert found.part("reference_model") == 0 < estimate(dpo, arch).part("reference_model")
    assert not {phase.name for phase in found.phases} & {"reference pass", "precompute pass"}
    assert workload(ours, arch, device="cuda").rows == workload(dpo, arch, device="cuda").rows
    scored_before = config(precompute_ref_log_probs="on", **whole)
    assert flops_per_token(ours, arch) == flops_per_token(scored_before, arch) < flops_per_token(dpo, arch)


def test_a_new_strategy_is_named_in_an_estimate_and_its_pairs_are_counted(odds: Strategy, tmp_path: Path) -> None:
    arch, pairs = architecture_of(MODEL), make_pairs(tmp_path / "pairs.jsonl", 30)
    ours = config(strategy="odds", use_4bit=True, dataset=str(pairs))
    memory = estimate(ours, arch)
    sizes = pair_sizes(ours, None)
    assert sizes.rows == 30
    answer = EstimateResult(ours, arch, "cuda", None, None, 80 * GB, memory, "fits", [], sizes, None, None, [], ())
    text = " ".join("\n".join(result_lines(answer)).split())
    assert "Odds, 4-bit" in text and "2 × 4 pairs" in text
    assert expected_range_note(ours, arch, memory) is None, "no figure is known for it"


def test_advice_on_a_new_strategy_is_only_what_holds_for_it(odds: Strategy) -> None:
    unusual = {"learning_rate": 8e-6, "beta": 5.0}
    assert {advice.rule for advice in advise(config(**unusual))} == {"learning-rate", "beta"}
    assert not advise(config(strategy="odds", **unusual))
    curve = [{"step": step, "loss": 2.4 - step / 1000, "rewards/margins": 0.01} for step in range(1, 61)]
    assert apply_rules(Evidence({}, curve))[0].rule == "rate-high", "worse than a coin, for DPO"
    assert apply_rules(Evidence({"strategy": "odds"}, curve))[0].rule == "learning"
    evaluations = [{"step": step, "eval_loss": 2.4 - step / 1000, "eval_rewards/accuracies": 0.8} for step in (0, 60)]
    shown = Evidence({"strategy": "odds"}, [*evaluations[:1], *curve, *evaluations[1:]], {"data": {"held_out": 50}})
    assert apply_rules(shown)[0].rule == "healthy"
    short = apply_rules(Evidence({"strategy": "odds"}, curve[:4], max_steps=4))[0]
    assert short.rule == "too-short" and "learn from pairs" in short.message


def test_a_strategy_that_compares_its_micro_batch_is_not_given_a_smaller_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "odds", replace(ODDS, smallest_micro_batch=2))
    with pytest.raises(InvalidConfigError, match="must be at least 2 with strategy = odds"):
        config(strategy="odds", per_device_train_batch_size=1)
    asked = config(strategy="odds", per_device_train_batch_size=4, gradient_accumulation_steps=2)
    assert [values["per_device_train_batch_size"] for values, _ in smaller_batches(asked)] == [2]
    event = {"kind": "out-of-memory", "message": "x"}
    settings = {"strategy": "odds", "use_4bit": True, "per_device_train_batch_size": 2}
    remedy = next(one for one in apply_rules(Evidence(settings, events=[event])) if one.rule == "out-of-memory").remedy
    assert "max_seq_length" in remedy and "per_device_train_batch_size" not in remedy


def test_a_new_strategy_trains_with_a_trainer_of_trl_by_one_row(
    home: Path, tiny_model: Path, tiny_pairs: Path, odds: Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ORPO in earnest: the worker needs its trainer and its arguments, and nothing else."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    from dpo_tui.train.tools.evaluate_run import evaluate
    from dpo_tui.train.tools.memory_probe import probe_config, take_steps
    from dpo_tui.train.trainer import trainer_registry
    from dpo_tui.train.trainer.trl_arguments import trl_arguments

    def arguments(*args: Any, **options: Any) -> Any:
        return trl_arguments(ORPOConfig, *args, own={"beta": args[0].beta}, **options)

    monkeypatch.setitem(trainer_registry.TRAINERS, "odds", trainer_registry.TrainerEntry(ORPOTrainer, arguments))
    made = make_config(tiny_model, tiny_pairs, strategy="odds", max_steps=4, beta=0.2)
    folder = train(made)
    found = losses(folder)
    assert found[4] < found[1]
    written = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert any("log_odds_ratio" in line for line in written)
    assert not any("eval_kl" in line for line in written), "there is no reference to estimate KL against"
    assert "reference" not in {json.loads(line)["model"] for line in folder.samples.read_text().splitlines()}
    card = folder.model_card.read_text()
    assert "trained with a method made up for this test" in card and "λ 0.2 · learning rate" in card
    assert "| eval_rewards/accuracies |" in card
    assert run_prompts(folder, 2).held_out
    measured = evaluate({"run": str(folder.path), "data": None, "kl_prompts": 4}, lambda *_: None)
    assert 0 <= measured["metrics"]["eval_rewards/accuracies"] <= 1
    assert "eval_kl" not in measured["metrics"]
    assert 0 < take_steps(probe_config(made), make_run(made))["longest"] <= made.max_seq_length


def test_a_run_without_preferences_is_not_evaluated_on_them(home: Path, tiny_model: Path, tmp_path: Path) -> None:
    from dpo_tui.train.tools.evaluate_run import evaluate

    folder = make_run(make_config(tiny_model, tmp_path / "rows.jsonl", strategy="sft"))
    with pytest.raises(TrainingError, match="trained with SFT on demonstrations, which has no preference accuracy"):
        evaluate({"run": str(folder.path), "data": None, "kl_prompts": 0}, lambda *_: None)
