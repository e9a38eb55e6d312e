"""A model folder with a fault is refused in words before a run is made; one that is only unusual is not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.errors import ConfigError
from dpo_tui.runs import store
from dpo_tui.start.model_check import check_model
from tests.support.command_line import CommandLine, command_line
from tests.support.tiny import save_sharded
from tests.support.training import loaded

Damage = Callable[[Path], None]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5368709120\n"


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A whole model in several files."""
    return save_sharded(tiny_model, tmp_path / "model")


def checked(folder: Path, **changes: Any) -> list[str]:
    return check_model(from_values({"model_name": str(folder), "dataset": "-", **changes}))


def refusal(folder: Path, **changes: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        checked(folder, **changes)
    assert caught.value.exit_code == 2 and str(folder) in caught.value.message and caught.value.hint
    return caught.value


def shard(folder: Path, number: int = 1) -> Path:
    return sorted(folder.glob("model-*.safetensors"))[number]


def change(folder: Path, file: str, **values: Any) -> None:
    document = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(document | values))


def cut(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


def rename(path: Path, name: str) -> None:
    path.rename(path.with_name(name))


def copy_part(folder: Path) -> None:
    shutil.copy(shard(folder, 0), shard(folder, 1))


def another_header(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    edit(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def first_entry(header: dict[str, Any]) -> dict[str, Any]:
    return next(entry for name, entry in sorted(header.items()) if name != "__metadata__")


WEIGHTS: dict[str, tuple[Damage, str]] = {
    "a part is missing": (lambda folder: shard(folder).unlink(), "is missing, which the index"),
    "the last part is missing": (lambda folder: shard(folder, -1).unlink(), "is missing, which the index"),
    "a part is cut": (lambda folder: cut(shard(folder), shard(folder).stat().st_size - 1), "is cut: 1 of its"),
    "the last part is cut in its header": (lambda folder: cut(shard(folder, -1), 40), "is cut: its header has"),
    "a part has five bytes": (lambda folder: cut(shard(folder), 5), "too few for a header"),
    "a part is empty": (lambda folder: cut(shard(folder), 0), "is empty"),
    "a part is longer": (
        lambda folder: shard(folder).write_bytes(shard(folder).read_bytes() + b"\0" * 7),
        "7 bytes more than its header",
    ),
    "a part is a pointer": (lambda folder: shard(folder).write_bytes(POINTER), "is a pointer of Git LFS"),
    "a part is a web page": (lambda folder: shard(folder).write_bytes(b"<!DOCTYPE html><p>Login"), "is a web page"),
    "a part is something else": (lambda folder: shard(folder).write_bytes(b"\xff" * 4000), "no safetensors file"),
    "a header is torn": (
        lambda folder: shard(folder).write_bytes((9).to_bytes(8, "little") + b'{"a": {"d' + b"\0" * 99),
        "damaged header",
    ),
    "a header lies about a shape": (
        lambda folder: another_header(shard(folder), lambda header: first_entry(header).update(shape=[7])),
        "damaged header",
    ),
    "a header has an odd entry": (
        lambda folder: another_header(shard(folder), lambda header: first_entry(header).update(data_offsets="all")),
        "not that of a tensor",
    ),
    "a part is that of another": (copy_part, "does not hold"),
    "the index is torn": (lambda folder: cut(folder / "model.safetensors.index.json", 99), "is torn or no JSON"),
    "the index names other folders": (
        lambda folder: change(folder, "model.safetensors.index.json", weight_map={"a": "../b.safetensors"}),
        "no usable weight_map",
    ),
    "the index is missing": (
        lambda folder: (folder / "model.safetensors.index.json").unlink(),
        "but no model.safetensors.index.json",
    ),
}
OTHER_WEIGHTS: dict[str, tuple[str, str]] = {
    "model.Q4_K_M.gguf": ("GGUF", "llama.cpp"),
    "consolidated.safetensors": ("format of the model's makers", "consolidated.safetensors"),
    "tf_model.h5": ("TensorFlow", "tf_model.h5"),
}
CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown type": ({"model_type": "lama"}, "model_type 'lama' is not known to transformers"),
    "code that is not there": ({"model_type": "newest", "auto_map": {"AutoConfig": "a.B"}}, "a.B (in config.json)"),
    "no type": ({"model_type": None}, "names no model_type"),
    "a type that is a list": ({"model_type": ["llama"]}, "is not known to transformers"),
    "an encoder": ({"model_type": "clip"}, "is not a language model"),
    "an encoder and a decoder": ({"model_type": "t5", "is_encoder_decoder": True}, "is not a language model"),
    "a reward model": ({"architectures": ["LlamaForSequenceClassification"]}, "classifier or reward model"),
    "a size in words": ({"hidden_size": "64"}, "hidden_size = '64' is no size"),
    "more layers than can be counted": ({"num_hidden_layers": 1001}, "num_hidden_layers = 1001 is no size"),
    "a limit in words": ({"max_position_embeddings": "many"}, "max_position_embeddings = 'many' is no number"),
    "a switch in words": ({"tie_word_embeddings": "no"}, "tie_word_embeddings = 'no' is no true or false"),
    "a negative size": ({"num_hidden_layers": -2}, "num_hidden_layers = -2 is no size"),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_damaged_weights_are_named_with_their_file(folder: Path, kind: str) -> None:
    damage, message = WEIGHTS[kind]
    assert checked(folder) == []
    damage(folder)
    assert message in refusal(folder).message


@pytest.mark.parametrize("file", OTHER_WEIGHTS)
def test_weights_in_another_format_are_named(folder: Path, file: str) -> None:
    for part in folder.glob("*.safetensors*"):
        part.unlink()
    (folder / file).write_bytes(b"GGUF" * 99)
    error = refusal(folder)
    assert all(said in error.message for said in OTHER_WEIGHTS[file])


def test_a_link_into_nowhere_is_named(folder: Path) -> None:
    for part in folder.glob("*.safetensors*"):
        part.unlink()
    (folder / "model.safetensors").symlink_to(folder / "blob")
    assert "link to a file that does not exist" in refusal(folder).message


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_config_that_transformers_cannot_use_is_refused(folder: Path, kind: str) -> None:
    values, message = CONFIGS[kind]
    change(folder, "config.json", **values)
    assert message in refusal(folder).message


@pytest.mark.parametrize("content", ["", "{", "[]", "\0\0", POINTER.decode(), "[" * 100_000])
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_file_that_is_no_object_is_refused(folder: Path, file: str, content: str) -> None:
    (folder / file).write_text(content)
    assert file in refusal(folder).message


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert "no tokenizer" in refusal(folder).message


def test_an_adapter_is_refused_with_the_name_of_its_base(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    error = refusal(folder)
    assert "is an adapter of org/base" in error.message and "merge" in str(error.hint)


def test_named_templates_without_a_default_are_refused_unless_one_is_chosen(folder: Path, tmp_path: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    named = [{"name": "rag", "template": "{{ messages }}"}, {"name": "tool_use", "template": "{{ messages }}"}]
    change(folder, "tokenizer_config.json", chat_template=named)
    assert "named rag, tool_use" in refusal(folder).message
    assert checked(folder, chat_template=str(tmp_path / "own.jinja")) == []
    change(folder, "tokenizer_config.json", chat_template=[*named, {"name": "default", "template": "{{ messages }}"}])
    assert checked(folder) == []


def with_token(folder: Path, token: str, number: int) -> None:
    document = json.loads((folder / "tokenizer.json").read_text())
    document["added_tokens"].append({**document["added_tokens"][-1], "id": number, "content": token})
    (folder / "tokenizer.json").write_text(json.dumps(document))


def rows(folder: Path) -> int:
    size: int = json.loads((folder / "config.json").read_text())["vocab_size"]
    return size


def test_a_token_beyond_the_embedding_is_refused_where_every_text_has_it(folder: Path) -> None:
    with_token(folder, "[PAD]", rows(folder))
    (note,) = checked(folder)
    assert f"'[PAD]' the id {rows(folder):,}" in note and "ends the run" in note
    change(folder, "tokenizer_config.json", pad_token="[PAD]")
    assert "'[PAD]' is in what will be trained" in refusal(folder).message


def test_a_token_of_the_chat_template_beyond_the_embedding_is_refused(folder: Path) -> None:
    with_token(folder, "<|turn|>", rows(folder) + 3)
    template = folder / "chat_template.jinja"
    template.write_text("<|turn|>" + template.read_text())
    assert "'<|turn|>' is in what will be trained" in refusal(folder).message


def test_what_is_only_unusual_is_not_refused(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    # Mistral's own file beside transformers' parts, files of people and editors, a newer layout of the header.
    (folder / "consolidated.safetensors").write_bytes(b"?")
    (folder / "notes.gguf").write_bytes(b"?")
    (folder / ".DS_Store").write_bytes(b"?")
    assert checked(folder) == []
    # A tokenizer with fewer tokens than the embedding has rows: padded for tensor cores.
    other = shutil.copytree(tiny_model, tmp_path / "whole")
    # transformers takes model.safetensors and does not look at an index beside it.
    (other / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}')
    assert checked(other) == []
    # A whole model under a name that its config gives.
    change(other, "config.json", transformers_weights="weights.safetensors")
    rename(other / "model.safetensors", "weights.safetensors")
    assert checked(other) == []
    # A type of its own is no matter where transformers knows it.
    change(other, "config.json", auto_map={"AutoModelForCausalLM": "modeling.Own"})
    assert checked(other) == []


def test_pickles_are_read_and_said_to_be_pickles(folder: Path, tiny_model: Path) -> None:
    import torch
    from safetensors.torch import load_file

    for part in folder.glob("*.safetensors*"):
        part.unlink()
    file = folder / "pytorch_model.bin"
    torch.save(load_file(tiny_model / "model.safetensors"), file)
    (note,) = checked(folder)
    assert "pickles" in note
    assert "no safetensors" in refusal(folder, merge_at_end=True).message
    cut(file, file.stat().st_size - 50)
    assert "the end of the archive is missing" in refusal(folder).message


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return command_line(monkeypatch, capsys)


def test_no_run_is_made_for_a_model_that_cannot_start(
    home: Path, folder: Path, tiny_pairs: Path, tmp_path: Path, call: CommandLine
) -> None:
    shard(folder).write_bytes(POINTER)
    loaded(tmp_path, folder, tiny_pairs)
    code, _, error = call("train", str(tmp_path / "config.toml"))
    assert code == 2 and "pointer of Git LFS" in error and "git lfs pull" in error
    assert store.all_runs() == []
    _, output, _ = call("estimate", str(tmp_path / "config.toml"))
    assert "A run would not start" in output and "Git LFS" in output


def snapshot(model: Path, cache: Path, name: str) -> Path:
    """Lay a model out as the hub's cache does."""
    repository = cache / ("models--" + name.replace("/", "--"))
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    return Path(shutil.copytree(model, repository / "snapshots" / "abc"))


def test_a_model_in_the_hubs_cache_is_checked_like_a_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cached = snapshot(folder, tmp_path / "cache", "org/model")
    config = from_values({"model_name": "org/model", "dataset": "-"})
    assert check_model(config) == []
    cut(shard(cached), 3000)
    with pytest.raises(ConfigError, match="is cut") as caught:
        check_model(config)
    assert "hf download org/model" in str(caught.value.hint)
    shard(cached).unlink()
    with pytest.raises(ConfigError, match="only a part of its files") as caught:
        check_model(config)
    assert "hf download org/model" in str(caught.value.hint)
