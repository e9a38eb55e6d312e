"""docs/guarantees.md: every promise has its tests, its kinds of faults are there, and its counts are the results'."""

import re

import pytest

from benchmarks.fault_kinds.all_kinds import KINDS
from benchmarks.fault_kinds.page import injected_in, kinds_named, with_counts
from tests.docs.test_requirements_page import NAMED, functions_of
from tests.support.repository import ROOT

PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "benchmarks" / "results" / "faults.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if re.match(r"\| (must|should) \|", line)]


@pytest.mark.parametrize(("module", "name"), sorted(set(NAMED.findall(PAGE))))
def test_every_test_that_is_named_exists(module: str, name: str) -> None:
    assert name in functions_of(ROOT / module), f"docs/guarantees.md names {name}, which is not in {module}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:50])
def test_every_promise_is_held_by_a_test_of_the_short_tier(row: str) -> None:
    named = NAMED.findall(row.rsplit("|", 2)[1])
    assert named and not all(functions_of(ROOT / module)[name] for module, name in named)


def test_every_kind_of_fault_is_named_and_there_is_no_other() -> None:
    named = {kind for kinds, _ in kinds_named(PAGE).values() for kind in kinds}
    assert named == set(KINDS)


def test_the_counts_are_those_of_the_results() -> None:
    assert with_counts(PAGE, injected_in(RESULTS)) == PAGE, (
        "python benchmarks/faults.py --out … --write-table writes them"
    )


def test_the_page_is_read() -> None:
    assert len(ROWS) > 15
    assert len(NAMED.findall(PAGE)) == len(re.findall(r"\btest_\w+\b(?!\.py)", PAGE)), "a test is named in another form"
    assert len(kinds_named(PAGE)) == len(ROWS) - 1, "all but the cut of power name kinds"
