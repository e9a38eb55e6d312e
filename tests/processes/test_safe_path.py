"""No process of ours imports a module of the folder that it happens to start in."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import dpo_tui
from dpo_tui.processes.child_environment import child_environment

_WITHOUT = ("-P", "-I")
"""Options of Python with which it does not look for modules in the current folder."""


def _modules_started(tree: ast.AST) -> list[ast.List]:
    """Commands in a source that start a module: lists with "-m" and a name in it."""
    lists = [node for node in ast.walk(tree) if isinstance(node, ast.List)]
    return [one for one in lists if "-m" in (texts := _texts(one)) and "install" not in texts]


def _texts(command: ast.List) -> list[object]:
    return [item.value for item in command.elts if isinstance(item, ast.Constant)]


def test_every_command_that_starts_a_module_leaves_the_current_folder_out() -> None:
    root = Path(dpo_tui.__file__).parent
    found = {
        f"{path.relative_to(root)}:{command.lineno}": _texts(command)
        for path in sorted(root.rglob("*.py"))
        if '"-m"' in (source := path.read_text(encoding="utf-8"))
        for command in _modules_started(ast.parse(source))
    }
    assert len(found) > 8
    assert not {place: texts for place, texts in found.items() if not any(one in texts for one in _WITHOUT)}


@pytest.mark.slow
def test_the_doctor_runs_no_torch_of_the_current_folder(tmp_path: Path) -> None:
    for name in ("torch", "json", "jinja2", "transformers"):
        (tmp_path / f"{name}.py").write_text("open('was-run', 'w').close()\nraise SystemExit(7)\n")
    program = "from dpo_tui.cli import main; main()"
    command = [sys.executable, "-P", "-c", program, "doctor", "--json"]
    environment = child_environment() | {"DPO_TUI_HOME": str(tmp_path / "home")}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert not (tmp_path / "was-run").exists()
    assert json.loads(ended.stdout)
