"""The templates for what is added most often work, and CONTRIBUTING names files that exist."""

import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import get_args

import click
import numpy as np
import pytest

from dpo_tui.cli.train import train
from dpo_tui.config.dialects import registry as dialects
from dpo_tui.config.files import from_values, load
from dpo_tui.config.sections.compute import ComputeSection
from dpo_tui.data.checks import registry as checks
from dpo_tui.data.checks.pair_columns import PairColumns, TextColumn
from dpo_tui.runs import store
from dpo_tui.runs.launchers import registry as launchers
from dpo_tui.runs.launchers.launcher import Command
from dpo_tui.runs.state import read_state
from dpo_tui.strategies import registry as strategies
from tests.support.repository import ROOT


def template(name: str) -> ModuleType:
    """Import docs/templates/NAME.py."""
    spec = importlib.util.spec_from_file_location(f"template_{name}", ROOT / "docs" / "templates" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_strategy_of_the_template_is_accepted_by_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"model_name": "m", "dataset": "d", "strategy": "odds"}
    with pytest.raises(Exception, match="odds"):
        from_values(values)
    monkeypatch.setitem(strategies.STRATEGIES, "odds", template("strategy").ODDS)
    assert strategies.strategy_of(from_values(values)).title == "Odds"


def test_a_launcher_of_the_template_starts_the_worker_its_way(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    template("launcher")
    monkeypatch.setitem(launchers.LAUNCHERS, "nice", "template_launcher:NiceLauncher")
    folder = store.create("", name="tiny", devices=[], launcher="nice")
    state = read_state(folder)
    assert state is not None
    code = f"import os; open({str(folder.path / 'niceness')!r}, 'w').write(str(os.nice(0)))"
    launcher = launchers.launcher_of(state)
    command = launcher.prepare(folder, state, [sys.executable, "-c", code])
    assert isinstance(command, Command)
    worker = launcher.start(folder, command)
    while (code := worker.poll()) is None:
        pass
    assert code == 0
    assert int((folder.path / "niceness").read_text()) == min(os.nice(0) + 10, 19)


def test_a_launcher_that_a_config_may_name_has_a_row() -> None:
    """So that one in `config/sections/compute.py` without its module fails here, and not when a run is made."""
    named = get_args(ComputeSection.model_fields["launcher"].annotation)
    assert set(named) <= set(launchers.LAUNCHERS)
    assert [type(launchers.launcher(name)).__name__.endswith("Launcher") for name in named] == [True] * len(named)
    (choice,) = [option for option in train.params if option.name == "launcher"]
    assert isinstance(choice.type, click.Choice)
    assert tuple(choice.type.choices) == named


def test_a_check_of_the_template_names_its_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_CHECKS", dict(checks.checks()))
    template("check")
    columns = PairColumns(
        np.arange(2), *(TextColumn.of(texts) for texts in (["a", "b"], ["Well.", "LOUD"], ["c", "d"]))
    )
    assert list(checks.checks()["shouting"].find_pairs(columns)) == [1]  # type: ignore[misc]


def test_a_dialect_of_the_template_is_recognised_and_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = template("dialect")
    row = dialects.Dialect("Toy", module.recognises, module.convert)
    monkeypatch.setattr(dialects, "DIALECTS", (row, *dialects.DIALECTS))
    path = tmp_path / "toy.yaml"
    path.write_text("toy_trainer_version: 3\nmodel: somebody/model\ndataset: pairs.jsonl\n")
    assert load(path).config.model_name == "somebody/model"


def test_contributing_names_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = {name for name in re.findall(r"`([\w/]+(?:\.(?:py|md)|/))`", text) if "NAME" not in name}
    assert len(named) > 10
    missing = [name for name in named if not (ROOT / name).exists() and not (ROOT / "dpo_tui" / name).exists()]
    assert missing == []
