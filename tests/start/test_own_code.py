"""A model that brings code: refused, allowed by a digest of exactly that code, asked about once, run by the worker."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dpo_tui import paths
from dpo_tui.cli import cli
from dpo_tui.cli import train as train_command
from dpo_tui.config.files import from_values, load
from dpo_tui.config.toml_text import to_toml
from dpo_tui.errors import ConfigError, TrainingError
from dpo_tui.hub.model_code import code_digest, code_files
from dpo_tui.runs import store
from dpo_tui.start.model_check import check_model, trusted
from dpo_tui.start.model_checks.model_folder import ModelFolder
from dpo_tui.start.model_checks.own_code import UntrustedCodeError, require_trusted_code
from tests.support.own_code_model import make_own_code_model
from tests.support.training import make_config, make_run, train


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model; `ran` says which processes ran its code."""
    monkeypatch.setenv("OWN_CODE_RAN", str(tmp_path / "ran"))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    return make_own_code_model(tiny_model, tmp_path / "own")


def ran(tmp_path: Path) -> set[int]:
    file = tmp_path / "ran"
    return {int(line) for line in file.read_text().split()} if file.exists() else set()


def config_of(model: Path, **changes: Any) -> Any:
    return from_values({"model_name": str(model), "dataset": "d", **changes})


def refusal(model: Path, **changes: Any) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        check_model(config_of(model, **changes), has_gpu=False)
    return refused.value


def test_it_is_refused_with_the_setting_that_allows_exactly_this_code(home: Path, model: Path, tmp_path: Path) -> None:
    """A check starts no process that would run it."""
    digest = code_digest(code_files(model))
    refused = refusal(model)
    assert isinstance(refused, UntrustedCodeError)
    assert "is made by code that the model brings, and it has not been allowed to run" in refused.message
    assert f'set trust_remote_code = "{digest}" in [model]' in str(refused.hint)
    assert "configuration_own.py, modeling_own.py" in str(refused.hint)
    notes = check_model(config_of(model, trust_remote_code=digest), has_gpu=False)
    assert any("2 Python files, allowed as" in note and "memory is a guess" in note for note in notes)
    assert ran(tmp_path) == set()


@pytest.mark.parametrize(
    "change",
    [
        lambda model: (model / "modeling_own.py").write_text((model / "modeling_own.py").read_text() + "\n"),
        lambda model: (model / "further.py").write_text("x = 1\n"),
        lambda model: (model / "configuration_own.py").rename(model / "configuration.py"),
    ],
)
def test_code_that_changes_is_no_longer_allowed(home: Path, model: Path, change: Any) -> None:
    digest = code_digest(code_files(model))
    check_model(config_of(model, trust_remote_code=digest), has_gpu=False)
    change(model)
    refused = refusal(model, trust_remote_code=digest)
    assert "allows other code than is there now" in refused.message or "none of them" in refused.message


@pytest.mark.parametrize(
    ("reference", "outside"),
    [
        ("someone/else--modeling.Own", "someone/else--modeling.Own"),
        ("../outside.Own", "../outside.Own"),
        ("sub.modeling.Own", "sub.modeling.Own"),
    ],
)
def test_code_outside_the_folder_cannot_be_allowed(home: Path, model: Path, reference: str, outside: str) -> None:
    """Also of the tokenizer, and with a digest: it would not cover that code."""
    (model.parent / "outside.py").write_text("")
    digest = code_digest(code_files(model))
    settings = json.loads((model / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": [None, reference]}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    refused = refusal(model, trust_remote_code=digest)
    assert f"{outside} (in tokenizer_config.json) is none of them" in refused.message


def test_what_cannot_work_with_it_is_refused(home: Path, model: Path, tiny_model: Path) -> None:
    digest = code_digest(code_files(model))
    unsloth = config_of(model, trust_remote_code=digest, provider="unsloth")
    with pytest.raises(ConfigError, match="provider unsloth does not run"):
        require_trusted_code(ModelFolder(model, str(model)), unsloth)
    with pytest.raises(ConfigError, match="out of a local folder alone") as refused:
        require_trusted_code(ModelFolder(model, "someone/model", cached=True), config_of(model))
    assert "hf download someone/model --local-dir DIR" in str(refused.value.hint)
    assert "full fine-tuning" in refusal(model, trust_remote_code=digest, use_lora=False).message
    assert "transformers makes a llama itself" in refusal(tiny_model, trust_remote_code=digest).message


@pytest.mark.parametrize("value", [True, "yes", "abc", "A" * 64])
def test_the_setting_is_no_switch(value: Any) -> None:
    with pytest.raises(ConfigError, match="is no switch but the SHA-256"):
        from_values({"model_name": "m", "dataset": "d", "trust_remote_code": value})


def write_config(path: Path, model: Path, pairs: Path) -> Path:
    path.write_text(to_toml(make_config(model, pairs)))
    return path


def test_a_terminal_is_asked_once_and_the_answer_holds_until_a_file_changes(
    home: Path, model: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path / "run.toml", model, tiny_pairs)
    arguments = ["train", str(config), "--dry-run"]
    with pytest.raises(UntrustedCodeError):  # no terminal
        CliRunner().invoke(cli, arguments, catch_exceptions=False)
    monkeypatch.setattr(train_command, "in_terminal", lambda: True)
    with pytest.raises(UntrustedCodeError):
        CliRunner().invoke(cli, arguments, input="n\n", catch_exceptions=False)
    assert not paths.trusted_code().exists()
    asked = CliRunner().invoke(cli, arguments, input="y\n", catch_exceptions=False)
    assert asked.exit_code == 0
    assert "all your rights" in asked.stderr
    assert "modeling_own.py" in asked.stderr
    again = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert again.exit_code == 0
    assert "Run it?" not in again.stderr
    assert trusted(load(config).config).trust_remote_code == code_digest(code_files(model))

    (model / "modeling_own.py").write_text((model / "modeling_own.py").read_text() + "# other\n")
    assert trusted(load(config).config).trust_remote_code is None
    with pytest.raises(UntrustedCodeError):
        CliRunner().invoke(cli, arguments, input="n\n", catch_exceptions=False)
    assert os.getpid() not in ran(tmp_path)


def test_the_worker_trains_judges_and_merges_it_and_refuses_code_that_has_changed(
    home: Path, model: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, as the worker does it; the merged folder loads by itself, with the copied code."""
    from dpo_tui.train.model import verified_code
    from dpo_tui.train.model.loaded_run import load_run
    from dpo_tui.train.tools.export_run import export

    monkeypatch.setattr(verified_code, "_verified", set())
    digest = code_digest(code_files(model))
    with pytest.raises(ValueError, match="trust_remote_code"):
        train(make_config(model, tiny_pairs))
    assert ran(tmp_path) == set()
    folder = train(make_config(model, tiny_pairs, trust_remote_code=digest, max_steps=2))
    assert type(load_run(folder).policy.base_model.model).__name__ == "OwnForCausalLM"
    assert ran(tmp_path) == {os.getpid()}
    target = tmp_path / "merged"
    result = export(
        {"run": str(folder.path), "target": str(target), "merge": True, "precision": "fp32"}, lambda *_: None
    )
    assert "logits differ by at most" in result["check"]
    assert code_files(target) == code_files(model)

    (model / "modeling_own.py").write_text((model / "modeling_own.py").read_text() + "# other\n")
    monkeypatch.setattr(verified_code, "_verified", set())
    with pytest.raises(TrainingError, match="is not what trust_remote_code allows"):
        load_run(folder)
    changed = make_run(make_config(model, tiny_pairs, trust_remote_code=digest))
    with pytest.raises(TrainingError, match="is not what trust_remote_code allows"):
        train(load(changed.config).config, changed)
    assert not verified_code.may_run_code_of(model)


def test_no_loader_is_left_to_the_default(home: Path) -> None:
    """Every call of transformers' Auto classes says whether code may run; transformers would ask in a terminal."""
    import ast

    from tests.support.repository import ROOT

    found = []
    for path in sorted((ROOT / "dpo_tui" / "train").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                loads = node.func.attr == "from_pretrained" and ast.unparse(node.func.value).startswith("Auto")
                named = {keyword.arg for keyword in node.keywords}
                if loads and "trust_remote_code" not in named:
                    found.append(f"{path.name}:{node.lineno}")
    assert found == []
    assert store.all_runs() == []
