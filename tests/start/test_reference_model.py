"""``ref_model`` and ``ref_adapter`` before a run: what they may name, and what is refused in words."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dpo_tui.cli import cli
from dpo_tui.config.files import from_values, load
from dpo_tui.errors import ConfigError, DpoTuiError
from dpo_tui.hardware.memory.memory_estimate import estimate
from dpo_tui.hardware.models.lookup import architecture_of
from dpo_tui.runs import store
from dpo_tui.runs.merged_start import MergedStart
from dpo_tui.start.prepare import create_run, prepare
from tests.start.test_adapter_start import config_file, make_adapter
from tests.support.own_code_model import make_own_code_model


def refused(folder: Path, *place: Path, **settings: Any) -> ConfigError:
    with pytest.raises(DpoTuiError) as found:
        prepare(load(config_file(folder, *place, **settings)))
    assert found.value.exit_code == 2
    assert store.all_runs() == []
    assert isinstance(found.value, ConfigError)
    return found.value


@pytest.mark.usefixtures("tools_in_process")
def test_an_adapter_becomes_a_model_that_the_frozen_config_names(
    home: Path, tmp_path: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    adapter = make_adapter(tmp_path / "adapter", tiny_model)
    for setting in ("ref_adapter", "ref_model"):
        ready = prepare(load(config_file(tmp_path, tiny_model, tiny_pairs, **{setting: str(adapter)})))
        merged = MergedStart.of(str(ready.config.ref_model))
        assert merged is not None and merged.adapter == str(adapter)
        assert ready.config.ref_adapter is None and ready.config.model_name == str(tiny_model)
        frozen = load(create_run(ready).config).config
        assert frozen.ref_model == ready.config.ref_model
        assert frozen == ready.config.model_copy(update={"lora_alpha": 8, "name": frozen.name})


def test_run_id_means_the_model_of_that_run(home: Path, tmp_path: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    earlier = create_run(prepare(load(config_file(tmp_path, tiny_model, tiny_pairs))))
    with pytest.raises(DpoTuiError) as found:
        prepare(load(config_file(tmp_path, tiny_model, tiny_pairs, ref_model=f"run:{earlier.id}")))
    assert found.value.message.startswith(f"ref_model = run:{earlier.id}: the run has no result")
    shutil.copytree(tiny_model, earlier.merged)
    ready = prepare(load(config_file(tmp_path, tiny_model, tiny_pairs, ref_model=f"run:{earlier.id}")))
    assert ready.config.ref_model == str(earlier.merged)


def test_the_hub_that_is_not_reached_names_the_setting(
    home: Path, tmp_path: Path, tiny_model: Path, tiny_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi

    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(HfApi, "model_info", unreachable)
    for setting, place in (("ref_model", tiny_model), ("model_name", "org/absent")):
        named = {"ref_model": "org/absent"} if setting == "ref_model" else {}
        error = refused(tmp_path, place, tiny_pairs, **named)
        assert error.message.startswith(f"{setting} = org/absent: is not on this machine")
        assert (error.hint or "").endswith(f'set {setting} = "/path/to/folder"')


def other_tokens(model: Path, folder: Path) -> Path:
    """The model again, with two ordinary tokens of its tokenizer exchanged."""
    shutil.copytree(model, folder)
    document = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = document["model"]["vocab"]
    first, second = sorted(vocabulary, key=lambda token: vocabulary[token])[100:102]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (folder / "tokenizer.json").write_text(json.dumps(document))
    return folder


def test_a_reference_of_other_tokens_is_refused_by_every_command_that_checks(
    home: Path, tmp_path: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    other = other_tokens(tiny_model, tmp_path / "other")
    error = refused(tmp_path, tiny_model, tiny_pairs, ref_model=str(other))
    assert f"ref_model = {other}: has other tokens than {tiny_model}: 2 of" in error.message
    for command in (["config", "check"], ["train"]):
        said = CliRunner().invoke(cli, [*command, str(tmp_path / "run.toml")])
        assert isinstance(said.exception, ConfigError) and "has other tokens" in said.exception.message
    estimated = CliRunner().invoke(cli, ["estimate", str(tmp_path / "run.toml")])
    assert "A run would not start" in estimated.output and "has other tokens" in " ".join(estimated.output.split())


def test_chat_tokens_that_the_reference_lacks_are_said_and_not_refused(
    home: Path, tmp_path: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    document = json.loads((base / "tokenizer.json").read_text())
    document["added_tokens"] = [one for one in document["added_tokens"] if one["content"] != "<|im_end|>"]
    document["model"]["vocab"].pop("<|im_end|>")
    (base / "tokenizer.json").write_text(json.dumps(document))
    ready = prepare(load(config_file(tmp_path, tiny_model, tiny_pairs, ref_model=str(base))))
    assert any("does not know 1 added token" in note and "<|im_end|>" in note for note in ready.model_notes)


def test_what_is_no_model_is_refused_by_the_name_of_the_setting(
    home: Path, tmp_path: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    torn = shutil.copytree(tiny_model, tmp_path / "torn")
    (torn / "model.safetensors").unlink()
    assert refused(tmp_path, tiny_model, tiny_pairs, ref_model=str(torn)).message.startswith(f"ref_model = {torn}:")
    assert "no such folder" in refused(tmp_path, tiny_model, tiny_pairs, ref_model=str(tmp_path / "gone")).message
    own = make_own_code_model(tiny_model, tmp_path / "own")
    assert "code of a reference is not run" in refused(tmp_path, tiny_model, tiny_pairs, ref_model=str(own)).message
    error = refused(tmp_path, tiny_model, tiny_pairs, ref_adapter=str(tiny_model))
    assert "is no folder of an adapter" in error.message and "ref_model" in (error.hint or "")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ref_model": "a", "ref_adapter": "b"}, "ref_model is set too"),
        ({"ref_model_revision": "main"}, "does nothing without ref_model"),
        ({"ref_model": "previous"}, "must be there before the command starts"),
        ({"ref_model": "a", "provider": "unsloth"}, "does not work with provider"),
        ({"ref_model": "a", "strategy": "orpo"}, "does nothing with strategy = orpo"),
        ({"ref_model": "a", "strategy": "simpo"}, "does nothing with strategy = simpo"),
        ({"ref_adapter": "a", "strategy": "sft"}, "does nothing with strategy = sft"),
    ],
)
def test_what_would_be_ignored_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as found:
        from_values({"model_name": "m", "dataset": "d", **settings})
    assert said in found.value.message


def test_the_estimate_has_a_second_model_for_as_long_as_it_is_there(tiny_model: Path) -> None:
    """In steps all the time; scored once, in that phase alone, before there are gradients and optimizer states."""
    arch = architecture_of(str(tiny_model))
    values = {"model_name": str(tiny_model), "dataset": "d", "bf16": False}
    alone = estimate(from_values(values), arch, device="cpu")
    in_steps = estimate(from_values({**values, "ref_model": str(tiny_model)}), arch, device="cpu")
    assert in_steps.part("reference_model") == alone.part("weights") > 0
    once = estimate(
        from_values({**values, "ref_model": str(tiny_model), "precompute_ref_log_probs": "on"}), arch, device="cpu"
    )
    assert once.part("reference_model") == 0
    assert any("by the reference model" in phase.name for phase in once.phases)
    assert once.total < in_steps.total
