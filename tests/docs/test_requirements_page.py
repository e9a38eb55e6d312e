"""docs/requirements.md: every promise has its tests, and every test that it names is there."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

import dpo_tui

ROOT = Path(dpo_tui.__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "requirements.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ROWS = [
    line
    for line in PAGE.splitlines()
    if line.startswith("| ") and not re.match(r"\| (promise|setting) \|", line) and not line.startswith("|---")
]


def functions_of(path: Path) -> dict[str, bool]:
    """The test functions of a module, read and not run: whether each is of the slow tier as a whole."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    marks = [
        ast.unparse(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node.targets[0])
    ]
    all_slow = any("pytest.mark.slow" in mark for mark in marks)
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {
        function.name: all_slow or any(ast.unparse(one) == "pytest.mark.slow" for one in function.decorator_list)
        for function in functions
        if function.name.startswith("test_")
    }


@pytest.mark.parametrize(("module", "name"), sorted(set(NAMED.findall(PAGE))))
def test_every_test_that_is_named_exists(module: str, name: str) -> None:
    assert (ROOT / module).is_file(), f"docs/requirements.md names {module}, which does not exist"
    assert name in functions_of(ROOT / module), f"docs/requirements.md names {name}, which is not in {module}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:40])
def test_every_promise_names_a_test(row: str) -> None:
    assert NAMED.search(row.rsplit("|", 2)[1])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:40])
def test_every_promise_is_held_by_the_short_tier(row: str) -> None:
    """A part of it at least: the slow tier runs seldom."""
    assert not all(functions_of(ROOT / module)[name] for module, name in NAMED.findall(row))


def test_the_page_is_read() -> None:
    """A page whose form changed must not pass by being empty for the tests above."""
    assert len(ROWS) == PAGE.count("\n| ") - PAGE.count("\n|---")
    assert len(ROWS) > 40
    names = re.findall(r"\btest_\w+\b(?!\.py)", PAGE)
    assert len(NAMED.findall(PAGE)) == len(names), "a test is named in another form"


def test_the_package_has_its_parts_and_its_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.split(r"[<>=!~ \[]", line)[0] for line in project["dependencies"]}
    stack = {"textual", "torch", "transformers", "trl", "peft", "bitsandbytes", "nvidia-ml-py", "tomli-w"}
    assert stack <= needed
    assert any(line.startswith("pytest-asyncio") for line in project["optional-dependencies"]["dev"])
    for name in ("dpo_tui", "screens", "themes", "tests"):
        assert (ROOT / name).is_dir()
    assert (ROOT / "README.md").is_file()
    assert (ROOT / "screens" / "monitor_screen.py").is_file()
    assert list((ROOT / "themes").glob("*.toml"))
