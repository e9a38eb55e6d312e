"""The fifth set of labelled runs: a GPT-NeoX and a GPT-2 on pairs that differ by degrees, scored once."""

import importlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.advice.advice import HEALTHY

ROOT = Path(__file__).parents[2]
RUNS = sorted(path.parent for path in (ROOT / "tests" / "advice_runs_other_models").glob("*/label.json"))
LABELS = {run: json.loads((run / "label.json").read_text()) for run in RUNS}


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of scripts/ by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module


def test_the_set_is_as_large_and_as_mixed_as_was_asked() -> None:
    """Forty runs and more, a third of them healthy, two families, and kinds that the first sets lack."""
    assert len(RUNS) >= 40
    assert sum(label["right"] == [HEALTHY] for label in LABELS.values()) >= 13
    assert min(Counter(label["model"] for label in LABELS.values()).values()) >= 15
    assert len({label["kind"] for label in LABELS.values()}) >= 15


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_each_run_shows_what_its_label_says_by_measures_that_are_not_the_advice(run: Path, scripts: Any) -> None:
    """The criterion of its kind, on what transformers and PEFT measured after the run."""
    label = LABELS[run]
    assert scripts("advice_measures").holds(label["kind"], label["measured"], run) == ""


def test_labels_are_those_of_the_recipes(scripts: Any) -> None:
    recipes = {f"{one.name}-s{one.seed}": one for one in scripts("advice_recipes_other_models").FIFTH}
    for run, label in LABELS.items():
        recipe = recipes[run.name]
        assert (label["right"], label["kind"], label["model"]) == (list(recipe.right), recipe.kind, recipe.model)


def test_the_score_is_what_the_page_says(scripts: Any) -> None:
    """No rule may be changed without a look at what that does here."""
    page = scripts("advice_page")
    found = page.score([RUNS[0].parent])
    assert (found.right, found.runs) == page.FIFTH_NOW
    assert (found.false_alarms, found.healthy) == page.FIFTH_ALARMS_NOW
    assert (found.alarms_on_the_way, found.moments) == page.FIFTH_MOMENTS_NOW
