"""docs/advice.md says what the rules do: made from them, and from the labelled runs."""

import ast
import importlib
import inspect
import textwrap
from typing import Any

import pytest

from dpo_tui.advice import config_rules, diagnose, receipt_rules
from tests.support.repository import ROOT


@pytest.fixture(scope="module")
def pages() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        return importlib.import_module("advice_page")


def ids_given_by(rule: Any) -> set[str]:
    """The ids of all advice that a rule's source can give."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(rule)))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Advice"]
    return {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}  # type: ignore[misc]


def test_every_rule_is_on_the_page_in_its_order_and_under_its_own_id(pages: Any) -> None:
    assert tuple(entry.rule for entry in pages.ON_RUNS) == diagnose.RULES
    assert tuple(entry.rule for entry in pages.ON_SETTINGS) == config_rules.RULES
    for entry in (*pages.ON_RUNS, *pages.ON_SETTINGS):
        given = ids_given_by(entry.rule)
        # The rule on the chat template hands on the ids of the check's findings.
        assert given == {entry.name} or (not given and entry.name in receipt_rules.TEMPLATE_WARNINGS)


def test_the_page_is_what_the_rules_and_the_runs_make_now(pages: Any) -> None:
    """Make it again with `python scripts/advice_page.py > docs/advice.md`."""
    assert (ROOT / "docs" / "advice.md").read_text(encoding="utf-8") == pages.page()


def test_settings_that_the_page_names_exist(pages: Any) -> None:
    """A remedy that names a setting names one of the schema's."""
    from dpo_tui.config.schema import fields

    remedies = " ".join(entry.remedy for entry in pages.ON_RUNS + pages.ON_SETTINGS)
    names = {word for word in remedies.replace("`", " ").split() if "_" in word and word.islower()}
    assert len(names) >= 10
    assert names <= fields().keys()
