"""`verify`: what is whole passes, and each kind of damage is named by the check that looks for it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from dpo_tui.cli import cli
from dpo_tui.errors import RunNotFoundError, UsageError
from dpo_tui.runs.folder import RunFolder
from tests.support.training import finished_run

QUICK = {"eval_split": 0.0, "sample_prompts": 0, "save_steps": 1, "save_total_limit": 3}
ADAPTER = "adapter_model.safetensors"


def verified(folder: Path) -> dict[str, tuple[str, str]]:
    """Status and message of each check, by its name."""
    from dpo_tui.train.tools.verify_saved import verify

    found = verify({"folder": str(folder)}, lambda *_: None)
    checks = {check["name"]: (check["status"], check["message"]) for check in found["checks"]}
    assert found["ok"] == all(status != "failed" for status, _ in checks.values())
    return checks


def failed(folder: Path) -> dict[str, str]:
    return {name: message for name, (status, message) in verified(folder).items() if status == "failed"}


def exported(folder: RunFolder, target: Path, *, merge: bool) -> Path:
    from dpo_tui.train.tools.export_run import export

    request = {"run": str(folder.path), "target": str(target), "merge": merge, "precision": "fp32"}
    export(request, lambda *_: None)
    return target


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def zero(weights: dict[str, Any]) -> None:
    for name in weights:
        if "lora_B" in name:
            weights[name] *= 0


def shift(weights: dict[str, Any]) -> None:
    weights["model.layers.0.mlp.up_proj.weight"] += 0.01


def drop_one(weights: dict[str, Any]) -> None:
    weights.pop(sorted(weights)[0])


def not_a_number(weights: dict[str, Any]) -> None:
    name = sorted(weights)[-1]
    weights[name].view(-1)[-1] = float("nan")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flip(path: Path) -> None:
    """Change a byte in the middle and no size."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tiny_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with checkpoints, an adapter and the merged model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPO_TUI_HOME", str(tmp_path_factory.mktemp("trained")))
        return finished_run(tiny_model, tiny_pairs, **QUICK, merge_at_end=True)


@pytest.fixture
def run(home: Path, trained: RunFolder) -> RunFolder:
    """A copy of that run, in the test's own home."""
    return RunFolder(Path(shutil.copytree(trained.path, home / "runs" / trained.id)))


def test_a_whole_run_and_its_exports_pass_every_check(run: RunFolder, tmp_path: Path) -> None:
    names = set(verified(run.path))
    assert names == {
        "files",
        "checkpoints",
        "weights of checkpoint-3",
        "change of the weights of checkpoint-3",
        "adapter",
        "change of the adapter",
        "tokenizer",
        "merged model",
        "merge",
    }
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    assert {status for status, _ in verified(run.path).values()} == {"ok"}
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before, "it only looks"
    for merge in (False, True):
        checks = verified(exported(run, tmp_path / f"merge-{merge}", merge=merge))
        assert {status for status, _ in checks.values()} == {"ok"}
        assert ("merge" in checks) == merge
        assert ("base" in checks) != merge


DAMAGE: dict[str, tuple[Callable[[RunFolder], object], str, str]] = {
    "a log with a broken line": (
        lambda run: run.metrics.write_text('{"step": 1}\n{"step":\n{"step": 3}\n'),
        "files",
        "line 2",
    ),
    "no adapter after the end": (lambda run: shutil.rmtree(run.adapter), "files", "adapter is not there"),
    "a checkpoint cut short": (
        lambda run: cut(run.checkpoints / "checkpoint-2" / ADAPTER),
        "checkpoints",
        "checkpoint-2",
    ),
    "an optimizer of the right size": (
        lambda run: flip(run.checkpoints / "checkpoint-3" / "optimizer.pt"),
        "checkpoints",
        "checkpoint-3",
    ),
    "a dead adapter": (
        lambda run: rewrite(run.adapter / ADAPTER, zero),
        "change of the adapter",
        "nothing has changed",
    ),
    "NaN": (lambda run: rewrite(run.adapter / ADAPTER, not_a_number), "change of the adapter", "NaN"),
    "a matrix too few": (lambda run: rewrite(run.adapter / ADAPTER, drop_one), "adapter", "not in its file"),
    "an adapter cut short": (lambda run: cut(run.adapter / ADAPTER), "change of the adapter", "is cut: 40 of its"),
    "no tokenizer": (lambda run: (run.adapter / "tokenizer.json").write_text("{"), "tokenizer", ""),
    "another merge": (lambda run: rewrite(run.merged / "model.safetensors", shift), "merge", "logits differ"),
    "a merged model with a gap": (
        lambda run: rewrite(run.merged / "model.safetensors", drop_one),
        "merged model",
        "none",
    ),
}


def test_each_damage_to_a_run_is_named(run: RunFolder, tmp_path: Path) -> None:
    state = json.loads(run.state.read_text())
    run.state.write_text(json.dumps(state | {"status": "done"}))
    for what, (damage, check, said) in DAMAGE.items():
        copy = RunFolder(shutil.copytree(run.path, tmp_path / what.replace(" ", "-") / run.id))
        damage(copy)
        found = failed(copy.path)
        assert check in found, (what, found)
        assert said in found[check], (what, found)


def test_each_damage_to_an_export_is_named(run: RunFolder, tmp_path: Path) -> None:
    adapter = exported(run, tmp_path / "adapter", merge=False)
    merged = exported(run, tmp_path / "merged", merge=True)
    (adapter / "README.md").unlink()
    assert "README.md is not there" in failed(adapter)["files"]
    record = json.loads((adapter / "dpo-tui-export.json").read_text())
    for name in ("files", "crc32"):
        del record[name]["README.md"]
    (adapter / "dpo-tui-export.json").write_text(json.dumps(record))
    assert "checksums" in verified(adapter)["files"][1]
    curves = (adapter / "curves.svg").read_bytes()
    (adapter / "curves.svg").write_bytes(curves.replace(b"svg", b"swg"))
    assert failed(adapter) == {"files": "curves.svg: not as exported, by the checksum (CRC-32)"}
    (adapter / "curves.svg").write_bytes(curves)
    rewrite(adapter / ADAPTER, zero)
    assert "nothing has changed" in failed(adapter)["change of the adapter"]
    rewrite(merged / "model.safetensors", shift)
    assert set(failed(merged)) == {"files", "merge"}
    assert "model.safetensors: not as exported" in failed(merged)["files"]
    cut(merged / "model.safetensors")
    found = failed(merged)
    assert {"files", "model", "change of the model", "merge"} <= set(found)
    for check in ("model", "change of the model", "merge"):
        assert found[check].startswith("model.safetensors is cut: 40 of its"), found[check]


def test_an_adapter_names_its_base_and_another_in_its_place_is_noticed(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the record, the card and PEFT's settings: commit of the hub's cache, and SHA-256 as the hub shows it."""
    import hashlib

    from dpo_tui.train.tools import export_run

    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "hub" / "models--me--base" / "snapshots" / commit
    shutil.copytree(tiny_model, snapshot)
    digest = hashlib.sha256((snapshot / "model.safetensors").read_bytes()).hexdigest()
    folder = finished_run(snapshot, tiny_pairs, **QUICK)
    adapter = exported(folder, tmp_path / "adapter", merge=False)
    record = json.loads((adapter / "dpo-tui-export.json").read_text())["base"]
    assert record == {"model": commit, "revision": commit, "sha256": {"model.safetensors": digest}}
    assert json.loads((adapter / "adapter_config.json").read_text())["revision"] == commit
    card = (adapter / "README.md").read_text()
    assert f"at revision `{commit}`" in card
    assert f"- `model.safetensors` `{digest}`" in card
    assert str(tmp_path) not in card
    assert verified(adapter)["base"] == ("ok", "1 files of weights are as when it was exported, by their SHA-256")

    rewrite(snapshot / "model.safetensors", shift)
    assert "model.safetensors of" in failed(adapter)["base"]
    monkeypatch.setattr(export_run, "_base_files", lambda _: Path("/nonexistent"))
    adapter = exported(folder, tmp_path / "adapter-2", merge=False)
    assert json.loads((adapter / "dpo-tui-export.json").read_text())["base"]["sha256"] == {}
    assert verified(adapter)["base"][0] == "not checked"


def test_full_fine_tuning_is_verified_too(home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path) -> None:
    folder = finished_run(tiny_model, tiny_pairs, **QUICK, use_lora=False)
    target = exported(folder, tmp_path / "out", merge=False)
    for place in (folder.path, target):
        assert {status for status, _ in verified(place).values()} == {"ok"}
    shutil.copy(tiny_model / "model.safetensors", target)
    assert "nothing has changed" in failed(target)["change of the model"]


def test_what_this_machine_lacks_is_not_checked_and_no_failure(run: RunFolder, tmp_path: Path) -> None:
    merged = exported(run, tmp_path / "merged", merge=True)
    adapter = exported(run, tmp_path / "adapter", merge=False)
    shutil.rmtree(run.path)
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": "nobody/nothing"}))
    (adapter / "dpo-tui-export.json").unlink()
    checks = verified(merged)
    assert checks["merge"] == ("not checked", "the run that it was merged from is not on this machine")
    assert {checks[name][0] for name in ("files", "model", "tokenizer")} == {"ok"}
    checks = verified(adapter)
    assert "nobody/nothing is not on this machine" in checks["adapter"][1]
    assert {checks[name][0] for name in ("files", "adapter")} == {"not checked"}
    assert checks["change of the adapter"][0] == "ok", "that it is not zero shows without its base"


def test_a_checkpoint_that_was_interrupted_is_said_and_is_no_damage(run: RunFolder) -> None:
    (run.checkpoints / "checkpoint-3" / "complete.json").unlink()
    status, message = verified(run.path)["checkpoints"]
    assert status == "ok" and "checkpoint-3: interrupted, and not used" in message


@pytest.mark.usefixtures("tools_in_process")
def test_the_command_prints_every_check_and_its_exit_code_says_how_it_went(run: RunFolder, tmp_path: Path) -> None:
    good = CliRunner().invoke(cli, ["verify", "last", "--json"], catch_exceptions=False)
    assert good.exit_code == 0 and json.loads(good.stdout)["ok"] is True
    assert json.loads(good.stdout)["what"] == "run"
    rewrite(run.adapter / ADAPTER, zero)
    bad = CliRunner().invoke(cli, ["verify", str(run.path)], catch_exceptions=False)
    assert bad.exit_code == 1
    assert "FAILED       change of the adapter: nothing has changed since the start" in bad.stdout


@pytest.mark.usefixtures("tools_in_process")
def test_no_such_run_and_no_such_folder(home: Path, tmp_path: Path) -> None:
    from dpo_tui.train.tools.verify_saved import verify

    for target in ("nobody", str(tmp_path / "nowhere")):
        found = CliRunner().invoke(cli, ["verify", target])
        assert isinstance(found.exception, RunNotFoundError) and found.exception.exit_code == 3
    with pytest.raises(UsageError, match="holds no run, no adapter and no model"):
        verify({"folder": str(tmp_path)}, lambda *_: None)
