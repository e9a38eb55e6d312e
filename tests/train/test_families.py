"""Model families by dpo-tui and by TRL, PEFT and transformers: the same losses, merges, evaluations and resumes."""

from pathlib import Path

import pytest

from tests.support.families import FAMILIES, IN_4BIT, build
from tests.support.family_comparison import broken_bounds, compare

# Of the kinds that have been wrong: fused experts whose names differ on disk, and layers stored as [in, out]. The slow
# tier has the others; `shortcuts/test_family_losses.py` and `model/test_checked_loading.py` have more of them here.
FAST = ("mixtral", "gpt2")
TRAINED = [name for name, family in FAMILIES.items() if family.plain_trl_trains]


def within_bounds(name: str, folder: Path) -> None:
    scratch = folder / "scratch"
    scratch.mkdir()
    parts = ["lora", "full", *(["4bit"] if name in IN_4BIT else [])]
    found = compare(name, build(name, folder / "model"), scratch, parts)
    assert not broken_bounds(name, found), found


@pytest.mark.parametrize("name", FAST)
def test_a_family_is_trained_merged_evaluated_and_resumed_as_it_should_be(
    home: Path, tmp_path: Path, name: str
) -> None:
    within_bounds(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TRAINED if name not in FAST])
def test_every_family_is_trained_merged_evaluated_and_resumed_as_it_should_be(
    home: Path, tmp_path: Path, name: str
) -> None:
    within_bounds(name, tmp_path)


def test_as_many_families_are_compared_as_are_promised() -> None:
    assert len(TRAINED) >= 45 and len(IN_4BIT) >= 12
    assert set(FAST) | set(IN_4BIT) <= set(TRAINED)
