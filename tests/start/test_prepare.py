"""Everything that can be told before a run starts is told before it starts."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dpo_tui.config.files import load
from dpo_tui.config.toml_text import to_toml
from dpo_tui.errors import ConfigError, DataError, DpoTuiError, RunNotFoundError, UsageError
from dpo_tui.hardware import nvml, requested_gpus
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.start.prepare import create_run, prepare
from tests.support.training import loaded, make_config


def test_bad_rows_are_named_by_line_before_anything_starts(tmp_path: Path, tiny_model: Path) -> None:
    row = json.dumps({"prompt": "help", "chosen": "thank you", "rejected": "late"})
    data = tmp_path / "pairs.jsonl"
    data.write_text(f'{row}\n{{"prompt": "x", oops\n{row}\n{{"prompt": "a", "chosen": "b"}}\n')
    prepared = prepare(loaded(tmp_path, tiny_model, data))
    assert (prepared.rows, prepared.usable) == (4, 2)
    assert [problem.row for problem in prepared.dropped] == [2, 4]
    assert "rejected" in prepared.dropped[1].message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        ("", "is empty"),
        ('{"prompt": "a", "chosen": "b"}\n' * 3, "no row that can be used"),
        ("plain text\nmore\n", "the first is row 1"),
    ],
    ids=["missing", "empty", "no-rejected", "not-json"],
)
def test_data_without_a_usable_row_is_refused(tmp_path: Path, tiny_model: Path, content: str | None, said: str) -> None:
    data = tmp_path / "data.jsonl"
    if content is not None:
        data.write_text(content)
    with pytest.raises(DataError) as caught:
        prepare(loaded(tmp_path, tiny_model, data))
    assert said in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no config.json"),
        ({"config.json": "{}"}, "no weights"),
        ({"adapter_config.json": "{}"}, "is an adapter"),
    ],
    ids=["empty", "no-weights", "adapter"],
)
def test_a_folder_that_is_no_model_is_refused(
    tmp_path: Path, tiny_pairs: Path, files: dict[str, str], said: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(ConfigError, match=said):
        prepare(loaded(tmp_path, folder, tiny_pairs))


def test_a_hub_model_that_is_not_here_and_cannot_be_asked_for_names_the_way_out(
    tmp_path: Path, tiny_model: Path, tiny_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    config = loaded(tmp_path, tiny_model, tiny_pairs, model_name="nobody/nothing-of-this-name")
    with pytest.raises(ConfigError) as caught:
        prepare(config)
    assert "/path/to/folder" in str(caught.value) or "no such model" in str(caught.value)


def test_a_provider_that_is_not_there_is_never_replaced_in_silence(
    tmp_path: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    with pytest.raises(ConfigError, match="unsloth"):
        prepare(loaded(tmp_path, tiny_model, tiny_pairs, provider="unsloth"))


def test_relative_paths_are_found_beside_the_config_and_made_absolute(
    tmp_path: Path, home: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    (tmp_path / "beside.jsonl").write_bytes(tiny_pairs.read_bytes())
    folder = create_run(prepare(loaded(tmp_path, tiny_model, tiny_pairs, dataset="beside.jsonl")))
    frozen = load(folder.config).config
    assert json.loads(folder.estimate.read_text())["total"] > 0
    assert frozen.dataset == str(tmp_path / "beside.jsonl")
    assert frozen.lora_alpha == 2 * frozen.lora_r


def test_a_second_run_of_one_config_gets_a_number_and_its_config_the_name(
    tmp_path: Path, home: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    prepared = prepare(loaded(tmp_path, tiny_model, tiny_pairs, name="tone"))
    folders = [create_run(prepared) for _ in range(3)]
    assert [store.name_of(folder) for folder in folders] == ["tone", "tone-2", "tone-3"]
    assert {load(folder.config).config.name for folder in folders} == {"tone"}
    assert store.find("tone-2") == folders[1]


def test_a_home_that_cannot_be_written_is_one_clear_error(
    tmp_path: Path, tiny_model: Path, tiny_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPO_TUI_HOME", "/proc/nowhere")
    prepared = prepare(loaded(tmp_path, tiny_model, tiny_pairs))
    with pytest.raises(DpoTuiError) as caught:
        create_run(prepared)
    assert caught.value.exit_code == 2 and caught.value.hint


def test_an_automatic_profile_keeps_what_the_person_set(tmp_path: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    """The profile fills in; a setting given by hand wins."""
    path = tmp_path / "config.toml"
    path.write_text(f'model_name = "{tiny_model}"\ndataset = "{tiny_pairs}"\nmax_seq_length = 77\nprofile = "auto"\n')
    prepared = prepare(load(path))
    assert prepared.config.max_seq_length == 77
    assert prepared.notes


def done_run(model: Path, pairs: Path) -> RunFolder:
    """A run that is done and has left a whole model."""
    folder = store.create(to_toml(make_config(model, pairs)), name="first", devices=[])
    shutil.copytree(model, folder.merged)
    return folder


def test_a_config_may_name_the_model_of_an_earlier_run(
    tmp_path: Path, home: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    first = done_run(tiny_model, tiny_pairs)
    prepared = prepare(loaded(tmp_path, tiny_model, tiny_pairs, model_name=f"run:{first.id}"))
    assert prepared.config.model_name == str(first.merged)
    assert prepared.estimated_gb["total"] > 0
    with pytest.raises(RunNotFoundError):
        prepare(loaded(tmp_path, tiny_model, tiny_pairs, model_name="run:nothing"))


def test_previous_means_the_stage_that_is_named(tmp_path: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    first = prepare(loaded(tmp_path, tiny_model, tiny_pairs))
    second = prepare(loaded(tmp_path, tiny_model, tiny_pairs, model_name="previous"), before=first)
    assert (first.follows, second.follows) == (False, True)
    with pytest.raises(UsageError, match="no config before this one"):
        prepare(loaded(tmp_path, tiny_model, tiny_pairs, model_name="previous"))


@pytest.mark.parametrize("name", ["ruN:last", "org name/model", "org/mo:del", "--/x"])
def test_a_name_that_no_hub_could_have_is_refused_in_words(
    tmp_path: Path, tiny_model: Path, tiny_pairs: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match="is neither a folder here nor a hub id") as caught:
        prepare(loaded(tmp_path, tiny_model, tiny_pairs, model_name=name))
    assert "Qwen/Qwen3-0.6B" in str(caught.value)
    assert "Error)" not in str(caught.value)


def test_a_gpu_that_the_machine_lacks_is_named_before_a_run_is_made(
    tmp_path: Path, tiny_model: Path, tiny_pairs: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = replace(nvml.read(), gpus=(), fault=None)
    monkeypatch.setattr(nvml, "read", lambda: none)
    monkeypatch.setattr(requested_gpus, "DRIVERS", ())
    with pytest.raises(ConfigError, match="gpus = 7: this machine has no GPU that can be used") as caught:
        prepare(loaded(tmp_path, tiny_model, tiny_pairs, gpus="7"))
    assert caught.value.exit_code == 2 and "dpo-tui hardware" in str(caught.value.hint)
    assert store.all_runs() == []
