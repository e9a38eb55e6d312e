"""The provider unsloth: its environment is found or asked for, never replaced; its worker is the same worker."""

import json
import os
import sys
import sysconfig
import venv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dpo_tui
from dpo_tui.config.files import from_values
from dpo_tui.config.toml_text import to_toml
from dpo_tui.errors import ConfigError
from dpo_tui.hardware import nvml
from dpo_tui.hardware.doctor.registry import DoctorOptions
from dpo_tui.processes import unsloth_environment
from dpo_tui.runs import launch, store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.state import read_state
from dpo_tui.start.prepare import create_run, prepare
from tests.start.test_prepare import loaded
from tests.support import supervised_runs
from tests.support.doctor_facts import findings, gpu
from tests.support.supervised_runs import ended, fresh_home  # noqa: F401 - a fixture
from tests.support.training import lines, losses, make_config

WHOLE = {"unsloth": "2026.10.9", "unsloth_zoo": "2026.10.9", "trl": "1.14.2", "torch": "2.10.0"}
REAL = os.environ.get("DPO_TUI_UNSLOTH_PYTHON")


def make_environment(home: Path, versions: dict[str, str]) -> Path:
    """Write down an environment with these distributions; its interpreter is this one."""
    folder = home / "environments" / "unsloth"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    for name, version in versions.items():
        about = folder / "lib" / "python3.12" / "site-packages" / f"{name}-{version}.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder


def ours(version: str = dpo_tui.__version__) -> dict[str, str]:
    return {"dpo_tui": version}


@pytest.mark.parametrize(
    ("versions", "has_gpu", "said", "fix"),
    [
        (WHOLE | ours(), False, "speeds up NVIDIA GPUs", 'provider = "huggingface"'),
        (None, True, "environment of its own", "python3 -m venv "),
        ({"trl": "1.14.2"} | ours(), True, "lacks unsloth, unsloth-zoo, torch", "-m pip install unsloth "),
        (WHOLE, True, "lacks dpo-tui", "-m pip install unsloth "),
        (WHOLE | ours("0.0.1"), True, f"has dpo-tui 0.0.1, and this is {dpo_tui.__version__}", "install --upgrade"),
    ],
    ids=["no-gpu", "no-environment", "no-unsloth", "without-us", "another-us"],
)
def test_what_stands_in_the_way_is_one_line_and_what_to_do(
    home: Path, versions: dict[str, str] | None, has_gpu: bool, said: str, fix: str
) -> None:
    if versions is not None:
        make_environment(home, versions)
    found = unsloth_environment.obstacle(has_gpu=has_gpu)
    assert found is not None
    assert said in found.message
    assert "\n" not in found.message
    assert fix in found.fix


def test_the_doctor_shows_how_to_make_it_and_finds_what_was_made(home: Path) -> None:
    asked = DoctorOptions(provider="unsloth")
    absent = findings(gpu(), options=asked)["unsloth"]
    assert absent.status == "fail"
    assert str(home / "environments" / "unsloth") in absent.fix
    folder = make_environment(home, WHOLE | ours())
    (folder / "lib" / "python3.12" / "site-packages" / "torn-1.dist-info").mkdir()
    assert unsloth_environment.obstacle(has_gpu=True) is None
    found = findings(gpu(), options=asked)["unsloth"]
    assert (found.status, found.message) == ("ok", "unsloth 2026.10.9 with trl 1.14.2 and torch 2.10.0")


@pytest.mark.parametrize(
    ("told", "package"),
    [
        ('{"url": "file:///some/where/dpo%20tui", "dir_info": {"editable": true}}', "'/some/where/dpo tui'"),
        (
            '{"url": "https://a.example/dpo-tui", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}',
            "'dpo-tui @ git+https://a.example/dpo-tui@c0ffee'",
        ),
        (
            '{"url": "https://a.example/dpo_tui-1-py3-none-any.whl", "archive_info": {}}',
            "'dpo-tui @ https://a.example/dpo_tui-1-py3-none-any.whl'",
        ),
        (None, f"dpo-tui=={dpo_tui.__version__}"),
        ("{", f"dpo-tui=={dpo_tui.__version__}"),
    ],
    ids=["checkout", "git", "wheel", "index", "torn"],
)
def test_the_environment_gets_the_same_dpo_tui_as_this_one(
    home: Path, monkeypatch: pytest.MonkeyPatch, told: str | None, package: str
) -> None:
    class Told:
        def read_text(self, name: str) -> str | None:
            return told if name == "direct_url.json" else None

    monkeypatch.setattr(unsloth_environment, "distribution", lambda name: Told())
    found = unsloth_environment.obstacle(has_gpu=True)
    assert found is not None
    assert found.fix.endswith(f"-m pip install unsloth {package}")


def test_a_run_with_unsloth_is_refused_where_it_cannot_be(
    home: Path, tmp_path: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    with pytest.raises(ConfigError, match="speeds up NVIDIA GPUs") as caught:
        prepare(loaded(tmp_path, tiny_model, tiny_pairs, provider="unsloth"))
    assert "huggingface" in str(caught.value.hint)
    assert not (home / "runs").exists()


def test_a_run_with_unsloth_asks_for_its_own_interpreter(
    home: Path, tmp_path: Path, tiny_model: Path, tiny_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_environment(home, WHOLE | ours())
    machine = replace(nvml.read(), gpus=(gpu(),))
    monkeypatch.setattr(nvml, "read", lambda: machine)
    prepared = prepare(loaded(tmp_path, tiny_model, tiny_pairs, provider="unsloth", gpus="auto"))
    state = read_state(create_run(prepared))
    assert state is not None
    assert state.python == str(folder / "bin" / "python")
    assert state.devices == ["gpu:0"]


@pytest.mark.parametrize(
    ("name", "value"), [("share_prefix", "on"), ("group_by_length", True), ("attn_implementation", "eager")]
)
def test_what_unsloth_would_ignore_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match="its own attention"):
        from_values({"model_name": "m", "dataset": "d", "provider": "unsloth", name: value})


def start_unsloth(model: Path, pairs: Path, **changes: Any) -> RunFolder:
    config = make_config(model, pairs, provider="unsloth", **changes)
    folder = store.create(to_toml(config), name="u", devices=[], python=str(unsloth_environment.interpreter()))
    launch.start(folder)
    return folder


def test_an_interpreter_without_unsloth_fails_in_words_and_trains_with_nothing_else(
    home: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    """A real environment of its own that has our stack and lacks Unsloth; also after a resume."""
    folder = home / "environments" / "unsloth"
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "stack.pth").write_text(sysconfig.get_paths()["purelib"])

    run = start_unsloth(tiny_model, tiny_pairs)
    for attempt in (1, 2):
        state = ended(run)
        assert state.attempt == attempt
        assert state.worker_argv[0] == str(folder / "bin" / "python")
        assert state.status == "failed"
        assert 'provider = "unsloth"' in state.reason
        assert "No module named 'unsloth'" in state.reason
        assert "dpo-tui doctor --provider unsloth" in state.reason
        assert not run.metrics.exists() or not losses(run)
        if attempt == 1:
            launch.resume(run)


@pytest.mark.skipif(not REAL, reason="DPO_TUI_UNSLOTH_PYTHON names no interpreter with Unsloth")
def test_unsloth_itself_trains_like_any_other_run(
    home: Path, tiny_model: Path, tiny_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Unsloth itself, on its CPU backend where there is no GPU."""
    (home / "environments").mkdir(parents=True)
    (home / "environments" / "unsloth").symlink_to(Path(str(REAL)).parent.parent)
    run = start_unsloth(tiny_model, tiny_pairs, max_steps=4)
    monkeypatch.setattr(supervised_runs, "PATIENCE", 300.0)
    state = ended(run)
    assert (state.status, state.reason) == ("done", "")
    assert set(losses(run)) == {1, 2, 3, 4}
    assert losses(run)[1] == pytest.approx(0.6931, abs=1e-3)
    receipt = json.loads(run.receipt.read_text())
    assert receipt["packages"]["unsloth"]
    assert receipt["shortcuts"] == {}
    assert any("Our shortcuts are off" in str(event.get("message")) for event in lines(run.events))
    assert {sample["when"] for sample in lines(run.samples)} >= {"before", "after"}
    assert (run.adapter / "adapter_model.safetensors").is_file()
    assert not (run.adapter / "training_args.bin").exists()
