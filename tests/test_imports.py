"""What each part of the house loads, seen in sys.modules: a static graph cannot see a deferred import."""

import subprocess
import sys

import pytest

from tests.support.repository import ROOT

TORCH_STACK = {"torch", "transformers", "trl", "peft", "unsloth", "datasets", "accelerate", "bitsandbytes"}
HEAVY = TORCH_STACK | {"numpy", "pyarrow", "pandas", "duckdb", "polars"}


def loaded_by(code: str) -> set[str]:
    """Run code in a fresh interpreter and return the top-level packages that it loaded."""
    report = "import sys; print('\\n'.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_package_itself_imports_nothing() -> None:
    assert "pydantic" not in loaded_by("import dpo_tui")


def test_the_supervisor_needs_the_standard_library_only() -> None:
    foreign = loaded_by("import dpo_tui.runs.supervisor") - loaded_by("pass") - set(sys.stdlib_module_names)
    assert foreign == {"dpo_tui"}


@pytest.mark.parametrize(
    "module", ["dpo_tui.cli.runs", "dpo_tui.cli.run_status", "dpo_tui.cli.run_logs", "dpo_tui.cli.run_control"]
)
def test_looking_at_runs_stays_light(module: str) -> None:
    assert not loaded_by(f"import {module}") & (HEAVY | {"textual", "pydantic", "rich"})


def test_the_child_of_a_scan_does_without_configs() -> None:
    """Importing them takes longer than scanning a small file."""
    assert not loaded_by("import dpo_tui.data.scan.scanner") & {"pydantic", "pyarrow", "jinja2", "yaml"}


@pytest.mark.parametrize(
    "module", ["dpo_tui.start.prepare", "dpo_tui.cli.train", "dpo_tui.cli.demo", "dpo_tui.cli.config"]
)
def test_the_checks_before_a_start_do_without_torch(module: str) -> None:
    assert not loaded_by(f"import {module}") & TORCH_STACK


def test_the_worker_shows_a_first_sign_of_life_before_torch() -> None:
    assert not loaded_by("import dpo_tui.train.__main__") & HEAVY


def test_every_module_of_the_package_imports_by_itself() -> None:
    """No module may depend on another having been imported first."""
    root = ROOT
    modules = sorted(
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for path in (root / "dpo_tui").rglob("*.py")
        if path.name != "__main__.py"
    )
    code = "import importlib\nfor name in " + repr(modules) + ": importlib.import_module(name)"
    assert "dpo_tui" in loaded_by(code)
