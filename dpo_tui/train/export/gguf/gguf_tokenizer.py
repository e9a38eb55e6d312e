"""A tokenizer as GGUF stores it: tokens with types, merges or scores, the kind of pre-tokenizer, special tokens.

llama.cpp implements each pre-tokenizer in code and knows it by a name. Its converter finds the name by a hash of what a
tokenizer makes of one text, so that it knows published vocabularies only. Here the pre-tokenizer of ``tokenizer.json``
has to be one of those that llama.cpp implements, to the letter. Any other is refused: with the wrong name the
file would load, and every text would be split in another way than in training.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from dpo_tui.data.tokens.tokenizer_settings import TokenizerSettings, read_object
from dpo_tui.errors import UsageError
from dpo_tui.train.export.end_tokens import GENERATION_CONFIG, end_tokens
from dpo_tui.train.export.gguf.spm_scores import spm_scores

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_GPT2 = "GPT-2's own"
"""The expression of `ByteLevel` with ``use_regex``."""
_DIGITS = "single digits"

_PRE_TOKENIZERS = {
    ((_GPT2,), False): "gpt-2",
    ((_DIGITS, _GPT2), False): "smollm",
    ((_LLAMA3,), True): "llama-bpe",
    ((_LLAMA3,), False): "dbrx",
    ((_QWEN2,), False): "qwen2",
}
"""llama.cpp's names (``llama-vocab.cpp``), by the expressions that text is split by, in their order, and by whether
a piece that is a token is taken before any merge (``ignore_merges``)."""
_SPACE = "▁"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
# Added tokens that llama.cpp takes for control tokens although their files do not say so (`conversion/base.py`).
_LOOKS_SPECIAL = re.compile(r"<\|.*\|>|<｜.*｜>|<unused.*>|<pad>|<mask>|<2mass>|\[@BOS@\]", flags=re.DOTALL)


class TokenType(IntEnum):
    """Types of tokens in GGUF (``gguf.TokenType``)."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class GgufTokenizer:
    """What a GGUF file says of a tokenizer.

    Attributes:
        model: ``gpt2`` (byte-level BPE) or ``llama`` (SentencePiece).
        pre: llama.cpp's name of the pre-tokenizer.
        tokens: by id; there are as many as the model has embeddings.
        types: of each token.
        merges: of byte-level BPE, as two tokens with a space between them.
        scores: of SentencePiece, which merges the neighbours whose product has the highest.
        special: ids by llama.cpp's names: ``bos_token_id``, ``eos_token_id`` …
        flags: ``add_bos_token``, ``add_eos_token``, ``add_space_prefix``.
        chat_template: empty where there is none.
    """

    model: str
    pre: str
    tokens: Sequence[str]
    types: Sequence[int]
    merges: Sequence[str] = ()
    scores: Sequence[float] = ()
    special: Mapping[str, int] = field(default_factory=dict)
    flags: Mapping[str, bool] = field(default_factory=dict)
    chat_template: str = ""


def read_gguf_tokenizer(folder: Path, size: int) -> GgufTokenizer:
    """Describe the tokenizer of a model's folder.

    Args:
        folder: with ``tokenizer.json``.
        size: number of the model's embeddings: ids above the tokenizer's are filled with unused tokens.

    Raises:
        UsageError: llama.cpp would split texts in another way, or the writer does not know how it would.
    """
    document = read_object(folder / "tokenizer.json")
    model = document.get("model") or {}
    if model.get("type") != "BPE":
        raise _unknown(f"it is of the type {model.get('type')!r}" if document else "the folder has no tokenizer.json")
    vocabulary: dict[str, int] = model["vocab"]
    # transformers adds tokens that a class of tokenizers always has, beyond the embeddings where the model lacks them.
    added = {entry["id"]: entry for entry in document.get("added_tokens") or () if entry["id"] < size}
    largest = max(vocabulary.values())
    if largest >= size:
        raise _unknown(f"it has a token {largest}, and the model has {size} embeddings")
    for entry in added.values():
        if entry.get("lstrip") or entry.get("rstrip") or entry.get("single_word"):
            raise _unknown(f"{entry['content']!r} takes the spaces around it, or is found as a whole word only")
    bytewise = not model.get("byte_fallback")
    tokens, types = _tokens(vocabulary, added, size, unknown=model.get("unk_token"), bytewise=bytewise)
    merges = [(merge.split(" ", 1) if isinstance(merge, str) else merge) for merge in model["merges"]]
    prefix = False
    if bytewise:
        pre, scores = _pre_tokenizer(document, model), []
    else:
        pre, prefix = "default", _space_prefix(document)
        normal = {token: number for token, number in vocabulary.items() if types[number] == TokenType.NORMAL}
        scores = spm_scores(tokens, normal, merges, _unknown)
    special, flags = _special(folder, size)
    return GgufTokenizer(
        model="gpt2" if bytewise else "llama",
        pre=pre,
        tokens=tokens,
        types=types,
        # A space within a token would be taken for the one between the two; llama.cpp spells it as byte-level BPE does.
        merges=[" ".join(part.replace(" ", "Ġ") for part in merge) for merge in merges] if bytewise else (),
        scores=scores,
        special=special,
        flags={**flags, "add_space_prefix": prefix},
        chat_template=_chat_template(folder),
    )


def _tokens(
    vocabulary: Mapping[str, int], added: Mapping[int, Any], size: int, *, unknown: str | None, bytewise: bool
) -> tuple[list[str], list[int]]:
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [int(TokenType.UNUSED)] * size
    for token, number in vocabulary.items():
        tokens[number], types[number] = token, TokenType.NORMAL
        if not bytewise and _BYTE.fullmatch(token):
            types[number] = TokenType.BYTE
        elif token == unknown:
            types[number] = TokenType.UNKNOWN
    for number, entry in added.items():
        text = entry["content"]
        tokens[number] = text
        if types[number] == TokenType.UNKNOWN:
            continue
        if entry.get("special") or _LOOKS_SPECIAL.fullmatch(text):
            types[number] = TokenType.CONTROL
        else:
            types[number] = TokenType.USER_DEFINED
            tokens[number] = text if bytewise else text.replace(_SPACE, " ")
    return tokens, types


def _pre_tokenizer(document: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    """Return llama.cpp's name of a byte-level pre-tokenizer."""
    normaliser = document.get("normalizer")
    # Qwen composes characters first (NFC), llama.cpp does not: composed texts, as nearly all are, are the same.
    if normaliser is not None and normaliser.get("type") != "NFC":
        raise _unknown(f"its normaliser {normaliser.get('type')} is none that llama.cpp has")
    parts: list[str] = []
    for step in _steps(document.get("pre_tokenizer"), "pretokenizers"):
        kind = step.get("type")
        if kind == "ByteLevel" and not step.get("add_prefix_space"):
            parts += [_GPT2] if step.get("use_regex", True) else []
        elif kind == "Digits" and step.get("individual_digits"):
            parts.append(_DIGITS)
        elif kind == "Split" and step.get("behavior") == "Isolated" and not step.get("invert"):
            parts.append(str(step["pattern"].get("Regex", "")))
        else:
            raise _unknown(f"its pre-tokenizer has a step {json.dumps(step, ensure_ascii=False)}")
    name = _PRE_TOKENIZERS.get((tuple(parts), bool(model.get("ignore_merges"))))
    if name is None:
        raise _unknown(f"llama.cpp has no pre-tokenizer that splits by {' and then '.join(parts) or 'nothing'}")
    return name


def _space_prefix(document: Mapping[str, Any]) -> bool:
    """Whether a SentencePiece tokenizer puts a space before a text, and before what follows a special token."""
    found: set[bool] = set()
    replaces = False
    for step in _steps(document.get("normalizer"), "normalizers"):
        kind, prepended = step.get("type"), step.get("prepend")
        if kind == "Prepend" and prepended == _SPACE:
            found.add(True)
        elif kind == "Replace" and step.get("pattern") == {"String": " "} and step.get("content") == _SPACE:
            replaces = True
        else:
            raise _unknown(f"its normaliser has a step {json.dumps(step, ensure_ascii=False)}")
    for step in _steps(document.get("pre_tokenizer"), "pretokenizers"):
        kind = step.get("type")
        if kind == "Metaspace" and step.get("replacement") == _SPACE and not step.get("split", True):
            replaces = True
            # "first" is a space before the very beginning alone. A chat's text begins with a special token, after which
            # llama.cpp would put one too: without the prefix chats are right, and only a bare text lacks it.
            found.add(step.get("prepend_scheme", "always") == "always")
        elif kind == "Split" and step.get("pattern") == {"String": " "}:
            continue  # after the normaliser there is no space left to split at
        else:
            raise _unknown(f"its pre-tokenizer has a step {json.dumps(step, ensure_ascii=False)}")
    if not replaces:
        raise _unknown("it does not write spaces as SentencePiece does")
    return any(found)


def _steps(part: Mapping[str, Any] | None, key: str) -> list[Mapping[str, Any]]:
    if part is None:
        return []
    return [one for inner in part[key] for one in _steps(inner, key)] if part.get("type") == "Sequence" else [part]


def _special(folder: Path, size: int) -> tuple[dict[str, int], dict[str, bool]]:
    """Return the special tokens by llama.cpp's names, and whether they are added around a text."""
    settings, tokenizer = TokenizerSettings(folder), AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    named = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    special = {
        f"{name}_token_id": number
        for name, attribute in named.items()
        if (number := getattr(tokenizer, f"{attribute}_id")) is not None and number < size
    }
    # Generation ends at any of three: the tokenizer's end of text, the end of an answer, and one more.
    ends = end_tokens(folder)
    stated = read_object(folder / GENERATION_CONFIG).get("eos_token_id")
    ends += stated if isinstance(stated, list) else [] if stated is None else [stated]
    others = list(dict.fromkeys(number for number in ends if number != special.get("eos_token_id")))
    if "eos_token_id" not in special and others:
        special["eos_token_id"] = others.pop(0)
    special |= dict(zip(("eot_token_id", "eom_token_id"), others, strict=False))
    plain = tokenizer("a", add_special_tokens=False).input_ids
    framed = tokenizer("a").input_ids
    before = framed[: framed.index(plain[0])] if plain else []
    after = framed[len(before) + len(plain) :]
    if before not in ([], [tokenizer.bos_token_id]) or after not in ([], [tokenizer.eos_token_id]):
        shown = settings.special_tokens
        raise _unknown(f"it frames a text with other tokens than {shown.get('bos_token')} and {shown.get('eos_token')}")
    return special, {"add_bos_token": bool(before), "add_eos_token": bool(after)}


def _chat_template(folder: Path) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = read_object(folder / "tokenizer_config.json").get("chat_template")
    return template if isinstance(template, str) else ""


def _unknown(reason: str) -> UsageError:
    return UsageError(f"the tokenizer cannot be written into a GGUF file: {reason}")
