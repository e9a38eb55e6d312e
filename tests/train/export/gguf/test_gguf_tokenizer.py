"""The tokenizer in a GGUF file splits texts as the one of the model does, or is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.errors import UsageError
from tests.support import families
from tests.support.gguf_tokenizers import AWKWARD, KINDS, make_tokenizer, vocabulary_size

gguf = pytest.importorskip("gguf")


def write(tokenizer: Path, target: Path, family: str = "llama") -> dict[str, Any]:
    """The fields of the GGUF file of a tiny model with this tokenizer."""
    from dpo_tui.train.export.gguf.gguf_file import GgufModel, write_gguf

    folder = families.build(family, target / "model", tokenizer=tokenizer)
    write_gguf(GgufModel(folder), target / "m.gguf", "q8_0", "a model")
    return {key: field.contents() for key, field in gguf.GGUFReader(target / "m.gguf").fields.items()}


def rewrite(folder: Path, **changes: Any) -> Path:
    """Change the parts of a tokenizer.json."""
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["model"] |= changes.pop("model", {})
    path.write_text(json.dumps(document | changes), encoding="utf-8")
    return folder


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_token_is_in_the_file_with_its_kind_and_its_way_of_being_made(kind: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = make_tokenizer(kind, tmp_path / "tokenizer")
    fields = write(folder, tmp_path)
    document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    assert fields["tokenizer.ggml.pre"] == KINDS[kind]
    assert fields["tokenizer.ggml.model"] == ("llama" if KINDS[kind] == "default" else "gpt2")
    assert {token: tokens.index(token) for token in document["model"]["vocab"]} == document["model"]["vocab"]
    assert [types[tokens.index(token)] for token in ("<s>", "<|im_end|>", "<tool_call>")] == [3, 3, 4]
    if "tokenizer.ggml.merges" in fields:
        merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
        assert merges == [tuple(merge) for merge in document["model"]["merges"]]
    else:
        scores = fields["tokenizer.ggml.scores"]
        made = [scores[tokens.index("".join(merge))] for merge in document["model"]["merges"]]
        assert made == sorted(made, reverse=True), "an earlier merge makes a token with a higher score"
        assert types[tokens.index("<0x0A>")] == 6
    ids = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids
    assert fields["tokenizer.ggml.eos_token_id"] == ids("</s>")
    assert fields["tokenizer.ggml.eot_token_id"] == ids("<|im_end|>"), "with which the template ends an answer"
    assert fields["tokenizer.ggml.bos_token_id"] == ids("<s>")
    assert fields["tokenizer.ggml.add_bos_token"] is True
    assert "<|im_start|>" in fields["tokenizer.chat_template"]


@pytest.mark.parametrize("kind", ["gpt-2", "llama-3", "llama-3-without-ignore-merges", "qwen2", "gemma"])
def test_transformers_splits_awkward_texts_alike_with_the_file_s_tokenizer(kind: str, tmp_path: Path) -> None:
    """The kinds that transformers reads from a GGUF file as they are; llama.cpp itself is asked in the second tier."""
    from transformers import AutoTokenizer

    folder = make_tokenizer(kind, tmp_path / "tokenizer")
    # transformers knows Gemma's tokenizer by the architecture.
    write(folder, tmp_path, "gemma2-window-64" if kind == "gemma" else "llama")
    expected, found = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")
    for text in AWKWARD:
        ids = found(text, add_special_tokens=False).input_ids
        assert ids == expected(text, add_special_tokens=False).input_ids, text
        assert found.decode(ids) == expected.decode(ids)


@pytest.mark.parametrize("kind", ["llama-3", "llama-2"])
def test_a_tokenizer_that_adds_nothing_says_so(kind: str, tmp_path: Path) -> None:
    fields = write(make_tokenizer(kind, tmp_path / "tokenizer", adds_bos=False), tmp_path)
    assert fields["tokenizer.ggml.add_bos_token"] is False
    assert fields["tokenizer.ggml.add_eos_token"] is False
    assert fields["tokenizer.ggml.add_space_prefix"] is (kind == "llama-2")


def test_the_end_that_a_run_sets_is_the_file_s(tmp_path: Path) -> None:
    """As the run saves it with `eos_token`: in the tokenizer's settings; further ends of generation are kept."""
    folder = make_tokenizer("qwen2", tmp_path / "tokenizer")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": "<|im_end|>"}))
    from transformers import AutoTokenizer

    from dpo_tui.train.export.gguf.gguf_tokenizer import read_gguf_tokenizer

    ids = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [ids("<|im_end|>"), ids("</s>")]}))
    special = read_gguf_tokenizer(folder, vocabulary_size(folder)).special
    assert special["eos_token_id"] == ids("<|im_end|>")
    assert special["eot_token_id"] == ids("</s>")


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("gpt-2", {"pre_tokenizer": {**BYTE_LEVEL, "use_regex": False}}, "no pre-tokenizer that splits by nothing"),
        ("gpt-2", {"pre_tokenizer": {**BYTE_LEVEL, "add_prefix_space": True}}, "pre-tokenizer has a step"),
        ("gpt-2", {"model": {"ignore_merges": True}}, "no pre-tokenizer that splits by GPT-2's own"),
        ("gpt-2", {"normalizer": {"type": "NFKC"}}, "normaliser NFKC"),
        ("qwen2", {"model": {"ignore_merges": True}}, "no pre-tokenizer that splits by"),
        ("gemma", {"normalizer": None}, "does not write spaces as SentencePiece does"),
        ("llama-2", {"pre_tokenizer": {"type": "Whitespace"}}, "pre-tokenizer has a step"),
        ("llama-2", {"model": {"merges": [["▁", "t"], ["h", "e"], ["▁", "t"]]}}, "in two places"),
        ("llama-2", {"model": {"merges": [["▁", "t"]]}}, "and no merge does"),
        ("gpt-2", {"model": {"type": "WordPiece"}}, "of the type 'WordPiece'"),
    ],
)
def test_a_tokenizer_that_llama_cpp_would_not_split_by_is_refused(
    tmp_path: Path, kind: str, changes: dict[str, Any], reason: str
) -> None:
    from dpo_tui.train.export.gguf.gguf_tokenizer import read_gguf_tokenizer

    folder = make_tokenizer(kind, tmp_path / "tokenizer")
    read_gguf_tokenizer(folder, vocabulary_size(folder))  # it can be written as it is
    rewrite(folder, **changes)
    with pytest.raises(UsageError, match=reason):
        read_gguf_tokenizer(folder, vocabulary_size(folder))


def test_more_tokens_than_embeddings_are_refused(tmp_path: Path) -> None:
    from dpo_tui.train.export.gguf.gguf_tokenizer import read_gguf_tokenizer

    folder = make_tokenizer("gpt-2", tmp_path / "tokenizer")
    with pytest.raises(UsageError, match="the model has 50 embeddings"):
        read_gguf_tokenizer(folder, 50)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_llama_cpp_splits_awkward_texts_alike(kind: str, tmp_path: Path) -> None:
    """The judge of all kinds: llama.cpp's own tokenizer, of the package llama-cpp-python."""
    llama_cpp = pytest.importorskip(
        "llama_cpp", reason="llama-cpp-python is not installed: pip install llama-cpp-python"
    )
    from transformers import AutoTokenizer

    folder = make_tokenizer(kind, tmp_path / "tokenizer")
    write(folder, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    loaded = llama_cpp.Llama(str(tmp_path / "m.gguf"), vocab_only=True, verbose=False)
    for text in AWKWARD:
        # As in a chat, where every text follows a token of the template.
        chat = f"<|im_start|>{text}<|im_end|>"
        found = loaded.tokenize(chat.encode(), add_bos=False, special=True)
        assert found == tokenizer(chat, add_special_tokens=False).input_ids, text
