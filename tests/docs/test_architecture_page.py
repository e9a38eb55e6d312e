"""docs/architecture.md and AGENTS.md say of files and layers what is so."""

import re
import tomllib

import pytest

from tests.support.repository import ROOT

PAGES = ("AGENTS.md", "docs/architecture.md")


def layers_of_contract() -> list[set[str]]:
    """The layers of pyproject.toml from the top, without the entry point `__main__`."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")
    return [{name.strip() for name in line.split(":")} for line in layers if line != "__main__"]


@pytest.mark.parametrize("page", PAGES)
def test_the_layers_of_the_page_are_those_of_the_contract(page: str) -> None:
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    found = re.search(r"cli → .*? → errors", text)
    assert found is not None
    layers = [set(re.findall(r"\w+", layer)) for layer in found[0].split(" → ")]
    assert layers == layers_of_contract(), f"a package was added: name it in {page} too"


@pytest.mark.parametrize("page", PAGES)
def test_the_files_that_the_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/.]+/[\w/]+\.(?:py|md|toml|jsonl?))`", text))
    assert len(named) > 5
    # Files of a run's folder, and what a page calls by the place in its own list.
    own = {name for name in named if name.startswith("ranks/")}
    roots = (ROOT, ROOT / "docs", ROOT / "dpo_tui", ROOT / "dpo_tui" / "data", ROOT / "dpo_tui" / "train")
    assert [name for name in sorted(named - own) if not any((root / name).exists() for root in roots)] == []


def test_a_walk_has_as_many_files_as_its_heading_says() -> None:
    """Those in brackets are passed through and stay closed."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    walks = re.findall(r"^### [^\n]*: (\d+) files\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)
    opened = [re.findall(r"`[\w/]+\.py`", re.sub(r"\[[^]]*\]", "", walk)) for _, walk in walks]
    assert len(walks) == 3
    assert [int(count) for count, _ in walks] == [len(files) for files in opened]
