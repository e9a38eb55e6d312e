"""docs/evaluation.md names commands, options, settings and metrics that are there."""

import re

import click
import pytest

from dpo_tui.cli import COMMANDS, LazyGroup
from dpo_tui.config.schema import fields
from dpo_tui.judging.calibration import calibrate
from dpo_tui.judging.rubrics import SHIPPED
from dpo_tui.judging.win_rate import WinRate
from tests.support.repository import ROOT

PAGE = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
OURS = ("export", "judge", "pairs", "eval", "chat", "compare")
# Of vLLM, llama.cpp and their scripts.
THEIRS = {
    "--served-model-name",
    "--outfile",
    "--enable-lora",
    "--max-lora-rank",
    "--lora-modules",
    "--base",
    "--lora",
} | {"--generation-config"}
METRICS = {"eval_loss", "eval_kl", "eval_kl_n", "eval_kl_stderr"}


@pytest.fixture(scope="module")
def options() -> set[str]:
    group, found = LazyGroup("x"), {"--json"}
    for name in OURS:
        command = group.get_command(click.Context(group), name)
        assert command is not None
        found |= {option for parameter in command.params for option in parameter.opts}
    return found


def test_every_command_that_is_named_is_there() -> None:
    named = set(re.findall(r"dpo-tui ([a-z]+)", PAGE))
    assert named >= set(OURS)
    assert named <= COMMANDS.keys()


def test_every_option_that_is_named_is_there(options: set[str]) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGE))
    assert len(named) > 12
    assert named <= options | THEIRS


def test_every_setting_and_metric_that_is_named_is_there() -> None:
    named = {word for word in re.findall(r"`([a-z]+_[a-z_]+)", PAGE) if not word.startswith("convert_")}
    assert len(named) > 8
    assert named <= fields().keys() | METRICS | {"eval_rewards", "generation_config"}
    for name, default in re.findall(r"`([a-z_]+)` \((\d+)\)", PAGE):
        assert fields()[name].default == int(default), name


def test_the_example_of_a_win_rate_is_what_judge_says() -> None:
    example = next(line.strip() for line in PAGE.splitlines() if "The tuned model wins" in line)
    assert WinRate(tuned=14, base=4).summary().startswith(example.removesuffix(" …"))


def test_the_example_of_a_calibration_is_what_judge_says() -> None:
    example = next(line.strip() for line in PAGE.splitlines() if "agrees with the person on" in line)
    verdicts = [("left", "left")] * 8 + [("left", "right")] + [("right", "left")] * 2 + [("right", "right")] * 9
    assert calibrate(verdicts).summary() == example  # type: ignore[arg-type]


def test_every_shipped_rubric_is_named() -> None:
    assert all(f"`{name}`" in PAGE for name in SHIPPED)
