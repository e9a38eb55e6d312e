"""Small tokenizers of each kind that a GGUF file can hold, trained on a few awkward texts."""

import json
from pathlib import Path
from typing import Any

AWKWARD = (
    "How do I reset my password? I've been WAITING; he'll say \"no\".",
    "  two spaces,\ttab\t\ttabs \n\n\nlines\r\n  end   ",
    "3 33 333 3333 12345678 3.14 ½ ² ৩৪",
    "naïve café Ünïcödé ß ẞ ﬁ",
    "日本語のテキスト、中文字符，한국어 문장",
    "🚀🦙🦙 👩‍👩‍👧 e\u0301 \u200b zero",
    "def f(x):\n    return x**2  # <not a token> |end|",
    "'S 'T 'Re DON'T we'Ve a'lL",
    "",
    " ",
    "▁ already",
    "<|im_start|>user\nhi<|im_end|>\n",
)
"""Texts at which tokenizers differ: contractions, digits, spaces, scripts, joined emoji, what looks like a token."""
_SPECIAL = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PIECES = (
    "▁▁ ▁t he in re er on ▁a ▁s ▁the ▁h ow ▁How an en ▁do ▁re es et ▁my ▁p as ss wo rd word ▁pass ▁password ing ▁ret "
    "urn ▁return th ▁to ta ab tab tabs ▁▁▁▁ la nd and ne line lines ▁l ▁li ▁lines"
)
"""Pieces of the SentencePiece kinds, by falling score."""
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
KINDS = {
    "gpt-2": "gpt-2",
    "smollm": "smollm",
    "llama-3": "llama-bpe",
    "llama-3-without-ignore-merges": "dbrx",
    "qwen2": "qwen2",
    "llama-2": "default",
    "mistral-first": "default",
    "gemma": "default",
}
"""Kinds of tokenizers, with llama.cpp's name of their pre-tokenizer."""


def make_tokenizer(kind: str, folder: Path, *, adds_bos: bool = True) -> Path:
    """Write a tokenizer of one of :data:`KINDS` into a folder, with its chat template.

    Args:
        kind: of tokenizer.
        folder: to write to; it is made.
        adds_bos: whether it puts ``<s>`` before a text.
    """
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    spm = kind in ("llama-2", "mistral-first", "gemma")
    backend: Tokenizer = _sentencepiece(kind) if spm else _byte_level(kind)
    backend.add_special_tokens(list(_SPECIAL))
    backend.add_tokens(["<tool_call>"])
    if adds_bos:
        number = backend.token_to_id("<s>")
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", number)]
        )
    options: dict[str, Any] = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **options)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def vocabulary_size(folder: Path) -> int:
    """The number of tokens of a tokenizer."""
    document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return 1 + max([*document["model"]["vocab"].values(), *(token["id"] for token in document["added_tokens"])])


def _byte_level(kind: str) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "llama-3"))
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind in ("gpt-2", "smollm"))
    steps: list[Any] = [plain]
    if kind == "smollm":
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    elif kind != "gpt-2":
        expression = _LLAMA3 if kind.startswith("llama-3") else _LLAMA3.replace("{1,3}", "")
        steps.insert(0, pre_tokenizers.Split(Regex(expression), behavior="isolated"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else plain
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=list(_SPECIAL), initial_alphabet=alphabet)
    tokenizer.train_from_iterator([*AWKWARD[:8], *AWKWARD[:4]], trainer)
    return tokenizer


def _sentencepiece(kind: str) -> Any:
    """As transformers converts a SentencePiece model: pieces by score, and every merge that makes one, by its score."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    pieces = _PIECES.split()
    characters = sorted({character for text in AWKWARD for character in text.replace(" ", "▁")} - set("🦙한"))
    singles = sorted({*characters, *(character for piece in pieces for character in piece)})
    vocabulary = {token: number for number, token in enumerate(_SPECIAL)}
    vocabulary |= {f"<0x{byte:02X}>": len(_SPECIAL) + byte for byte in range(256)}
    known = {*singles}
    merges: list[tuple[str, str]] = []
    for piece in pieces:
        ways = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece)) if {piece[:cut], piece[cut:]} <= known]
        if ways:
            known.add(piece)
            merges += ways
            vocabulary[piece] = len(vocabulary)
    for character in singles:
        vocabulary.setdefault(character, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if kind == "llama-2":
        steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        tokenizer.normalizer = normalizers.Sequence(steps)
    elif kind == "gemma":
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer
