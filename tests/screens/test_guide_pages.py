"""The guide says when DPO is right, how it compares, and what good practice is; its questions lead to every method."""

import pytest

from dpo_tui.screens.guide_pages import FIRST_QUESTION, PAGES, GuideAnswer, GuideQuestion
from dpo_tui.screens.steps.settings_step import setting_help
from dpo_tui.strategies.method_choice import METHOD_CHOICE
from dpo_tui.strategies.registry import STRATEGIES
from dpo_tui.views.planned_run_forecast import Forecast
from dpo_tui.views.run_plan import RunPlan
from tests.support.repository import ROOT


def text(key: str) -> str:
    (page,) = (page for page in PAGES if page.key == key)
    return "\n".join(words for words, _ in page.text)


def walk(answers: str) -> GuideAnswer:
    """Where these answers lead, a letter each: y for yes, n for no."""
    at: GuideQuestion | GuideAnswer = FIRST_QUESTION
    for answer in answers:
        assert isinstance(at, GuideQuestion)
        at = at.yes if answer == "y" else at.no
    assert isinstance(at, GuideAnswer)
    return at


def test_it_says_when_dpo_is_right_and_what_else_is_when_it_is_not() -> None:
    right, wrong = text("start").split("When it is not")
    assert all(words in right for words in ("people prefer", "pairs", "more stability than RLHF", "12 GB or more"))
    lines = [line.split("→") for line in wrong.splitlines() if "→" in line]
    instead = {case.strip(" •"): method.strip() for case, method in lines}
    assert list(instead) == [
        "First fine-tune of a raw base model",
        "Less than 12 GB",
        "A plain supervised task (classify, extract, translate)",
        "No pairs",
    ]
    assert [method.split()[0].rstrip(":,") for method in instead.values()] == ["SFT", "QLoRA", "SFT.", "SFT"]


def test_the_three_methods_are_compared_in_everything_that_decides() -> None:
    head, *rows = [line for line in text("compare").splitlines() if line and "frozen reference" not in line]
    assert head.split() == ["SFT", "DPO", "RLHF"]
    cells = {row[:22].strip(): (row[22:37].strip(), row[37:53].strip(), row[53:].strip()) for row in rows}
    assert list(cells) == [
        "complexity",
        "stability",
        "quality",
        "speed",
        "memory, 7B 4-bit",
        "set-up",
        "learns preferences",
        "reward model",
    ]
    assert cells["memory, 7B 4-bit"] == ("6–8 GB", "8–10 GB", "10–12 GB")
    assert cells["learns preferences"] == ("no", "yes", "yes")
    assert cells["reward model"] == ("no", "no", "yes")
    assert all(all(row) for row in cells.values())


@pytest.mark.parametrize(
    ("answers", "method"),
    [("n", "SFT first"), ("yn", "SFT"), ("yyn", "DPO with QLoRA"), ("yyyn", "DPO"), ("yyyy", "RLHF")],
)
def test_the_questions_lead_to_every_method(answers: str, method: str) -> None:
    assert walk(answers).method == method


def test_good_practice_names_every_setting_that_matters() -> None:
    practice = text("practice")
    for words in (
        "SFT first",
        "Clear pairs",
        "diverse prompts",
        "500 pairs or more",
        "Learning rate 5e-7, between 1e-7 and 1e-6",
        "0.1 is called a weak, 0.5 a balanced, 2.0 a strong",
        "LoRA alpha twice the rank",
        "dropout low (0.05)",
        "2 to 4 epochs",
        "KL",
        "Page through them",
    ):
        assert words in practice


def test_which_method_when_is_the_same_in_guide_docs_and_the_help_of_the_setting() -> None:
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    helped = " ".join(words for words, _ in setting_help("strategy", RunPlan(), Forecast()))
    for case, method in METHOD_CHOICE:
        assert f"| {case} | {method} |" in page
        assert f"{case} → {method}" in text("methods") and f"{case} → {method}" in helped
    assert "cheapest methods for small cards" in text("methods")
    for name in STRATEGIES:
        assert any(name in method for _, method in METHOD_CHOICE) or f"`{name}`" in page
