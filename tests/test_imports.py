"""What each part of the house loads, seen in sys.modules: a static graph cannot see a deferred import."""

import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

from tests.support.repository import ROOT

TORCH_STACK = {"torch", "transformers", "trl", "peft", "unsloth", "datasets", "accelerate", "bitsandbytes"}
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
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


def test_a_list_of_runs_does_without_the_rules_of_advice() -> None:
    """They are for `runs --json`, and take longer to import than a hundred runs to list."""
    code = "import sys, dpo_tui.cli.runs; print([name for name in sys.modules if name.startswith('dpo_tui.advice')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def modules_loaded_by(code: str) -> set[str]:
    """Run code in a fresh interpreter and return our modules that it loaded."""
    report = "import sys; print(*(name for name in sys.modules if name.startswith('dpo_tui.')), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("module", ["dpo_tui.cli.runs", "dpo_tui.cli.run_status", "dpo_tui.app"])
def test_where_there_are_no_groups_and_ranks_their_files_are_not_imported(module: str) -> None:
    readers = {"dpo_tui.groups.group_plan", "dpo_tui.groups.group_status", "dpo_tui.cli.group_text"}
    assert not modules_loaded_by(f"import {module}") & (readers | {"dpo_tui.runs.ranks"})


def test_the_first_paint_does_without_the_strategies_and_the_lookups_of_groups() -> None:
    """A chart's metrics are names; which strategy logs them is asked when a run is shown."""
    loaded = modules_loaded_by("import dpo_tui.cli.open_app, dpo_tui.app")
    assert not loaded & {"dpo_tui.strategies.registry", "dpo_tui.strategies.dpo", "dpo_tui.groups.group_store"}


def test_the_status_of_a_run_does_without_the_rules_of_advice() -> None:
    """The worker has written its advice down; the rules are for a run without any."""
    assert not {name for name in modules_loaded_by("import dpo_tui.cli.run_status") if "advice" in name}


def test_the_check_of_a_plain_config_does_without_what_few_configs_need(tmp_path: Path) -> None:
    """The checks of a model's files are for a reference or an adapter, and Slurm's script for a job."""
    config = tmp_path / "config.toml"
    config.write_text('model_name = "org/model"\ndataset = "org/pairs"\n')
    check = f"from dpo_tui.cli import cli; cli.main(['config', 'check', {str(config)!r}], standalone_mode=False)"
    unneeded = {
        "dpo_tui.advice.diagnose",
        "dpo_tui.groups.group_store",
        "dpo_tui.runs.launchers.slurm_script",
        "dpo_tui.runs.queue",
        "dpo_tui.start.model_check",
        "dpo_tui.start.reference_model",
    }
    assert not modules_loaded_by(check) & unneeded


def test_only_the_whole_config_has_a_validator_from_the_beginning() -> None:
    """Each table's own is never used, and all of them took a tenth of the time of `config check`."""
    code = "from dpo_tui.config.schema import SECTIONS, Config\n"
    code += "assert Config.__pydantic_complete__\n"
    code += "assert not any(section.__pydantic_complete__ for section in SECTIONS.values())"
    assert "dpo_tui" in loaded_by(code)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions are counted too; the contracts in pyproject.toml say the same of packages."""
    graph = grimp.build_graph("dpo_tui", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 300
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as circle:
        pytest.fail(" → ".join(reversed(circle.args[1])))


def test_a_package_that_stands_in_no_layer_breaks_the_contracts() -> None:
    """So a new one is an error until somebody decides what it may import."""
    layers = next(one for one in CONTRACTS if one["type"] == "layers")
    assert layers["exhaustive"]
    named = {name.strip() for line in layers["layers"] for name in line.split(":")}
    children = grimp.build_graph("dpo_tui", cache_dir=None).find_children("dpo_tui")
    assert named == {child.removeprefix("dpo_tui.") for child in children}
    assert not [one["name"] for one in CONTRACTS if "ignore_imports" in one]


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
