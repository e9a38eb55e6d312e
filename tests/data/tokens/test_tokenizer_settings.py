"""What a tokenizer's files say, and files that say what no library writes."""

import json
from pathlib import Path

import pytest

from dpo_tui.data.tokens.tokenizer_settings import TokenizerSettings
from dpo_tui.errors import DataError

_END = {"id": 2, "content": "</s>"}
_VOCABULARY = {"a": 0, "b": 1}


def _settings(folder: Path, added: list[object], vocabulary: object) -> TokenizerSettings:
    document = {"added_tokens": added, "model": {"vocab": vocabulary}}
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    (folder / "config.json").write_text('{"eos_token_id": [2, 0]}', encoding="utf-8")
    return TokenizerSettings(folder)


@pytest.mark.parametrize("vocabulary", [_VOCABULARY, [["a", -1.5], ["b", -2]]])
def test_tokens_that_end_are_found_among_those_added_and_in_either_kind_of_vocabulary(
    tmp_path: Path, vocabulary: object
) -> None:
    settings = _settings(tmp_path, [_END], vocabulary)
    assert settings.stop_tokens == ("</s>", "a")
    assert (settings.id_of("</s>"), settings.id_of("b"), settings.id_of("c")) == (2, 1, None)


@pytest.mark.parametrize(
    ("added", "vocabulary", "named"),
    [
        ([_END], {"a": "0"}, "a token's id is of the type str"),
        ([_END], {"a": True}, "a token's id is of the type bool"),
        ([_END], [[0, -1.5]], "a token's text is of the type int"),
        ([{"id": "2", "content": "</s>"}], _VOCABULARY, "a token's id is of the type str"),
        ([{"id": 2, "content": None}], _VOCABULARY, "a token's text is of the type NoneType"),
        ([{"id": 2}], _VOCABULARY, "content"),
    ],
)
def test_a_token_without_a_text_or_a_number_is_refused(
    tmp_path: Path, added: list[object], vocabulary: object, named: str
) -> None:
    # The text of the last two was "None", and an id that is a text would be written into a merged model's config.
    with pytest.raises(DataError, match=f"the tokenizer's files are damaged: .*{named}"):
        _ = _settings(tmp_path, added, vocabulary).stop_tokens
