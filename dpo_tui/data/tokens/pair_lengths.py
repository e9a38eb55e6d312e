"""Count the tokens of each pair, and predict which pairs TRL will drop and which answers it will truncate.

This mirrors ``DPOTrainer._prepare_dataset`` of TRL 1.16: the prompt is rendered with the generation prompt, then prompt
and answer together; the prompt's length is the common prefix of all three renderings, and a pair whose prompt alone
fills ``max_length`` is dropped without a message. One function, :func:`is_kept`, decides; the scan and the tests of the
worker both use it.

Tokenizers split text at special tokens before anything else, so the pieces between them can be tokenized once and
reused: the prompt once instead of three times. Every :class:`TokenCounter` compares that with the tokens of whole texts
on its first rows, and tokenizes whole texts if they differ.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from dpo_tui.data.pairs.pair import Pair
from dpo_tui.data.tokens.chat_template import ChatTemplate, Unrenderable, load_template, render
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings
from dpo_tui.data.tokens.tool_arguments import with_pair_arguments_for
from dpo_tui.errors import DataError

_CHECKED_TEXTS = 48
_MOST_PIECES = 20_000
"""Pieces whose tokens are cached; most occur in one pair only, system prompts in all."""


@dataclass(frozen=True, slots=True)
class Length:
    """Tokens of one pair.

    Args:
        prompt: the common prefix of all renderings of the pair.
        chosen: the chosen answer with what the template adds after it.
        rejected: the rejected answer with what the template adds after it.
    """

    prompt: int
    chosen: int
    rejected: int


def is_kept(prompt_tokens: int, max_length: int | None, truncation: str = "keep_start") -> bool:
    """Whether TRL keeps a pair: with ``keep_start`` a prompt that fills ``max_length`` leaves no room for an answer."""
    return max_length is None or truncation != "keep_start" or prompt_tokens < max_length


def truncated_answers(length: Length, max_length: int | None) -> int:
    """How many of the two answers of a pair TRL will truncate, 0 to 2."""
    if max_length is None:
        return 0
    return (length.prompt + length.chosen > max_length) + (length.prompt + length.rejected > max_length)


class TokenCounter:
    """Counts the tokens of pairs with a model's own tokenizer and chat template.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``.
        template: the chat template.
        own_template: whether the template is the model's own.
    """

    def __init__(self, tokenizer: Any, template: ChatTemplate, *, own_template: bool = True) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.own_template = own_template
        self._tokenizer = tokenizer
        self._template = template
        self._special_tokens = _special_token_pattern(tokenizer)
        self._pieces: dict[str, list[int]] = {}
        self._unchecked = _CHECKED_TEXTS

    @classmethod
    def from_folder(cls, folder: Path, settings: TemplateSettings | None = None) -> "TokenCounter":
        """Load the tokenizer of a model folder, and its chat template with the settings of a run.

        Raises:
            DataError: there is none, or it cannot be read.
        """
        from tokenizers import Tokenizer

        file = folder / "tokenizer.json"
        if not file.is_file():
            raise DataError(
                f"{folder} has no tokenizer.json",
                hint="Save the tokenizer there with AutoTokenizer.from_pretrained(…).save_pretrained(…).",
            )
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exception
            raise DataError(f"{file} cannot be read: {error}", hint="Download the model's tokenizer again.") from error
        template, own = load_template(folder, settings)
        return cls(tokenizer, template, own_template=own)

    def lengths(self, pairs: list[Pair]) -> list[Length | Unrenderable]:
        """Count the tokens of some pairs; call it with hundreds of pairs at a time."""
        rendered = [render(self._template, pair) for pair in with_pair_arguments_for(self._template, pairs)]
        texts = [text for item in rendered if not isinstance(item, Unrenderable) for text in item]
        ids = iter(self._tokenize(texts))
        return [
            item if isinstance(item, Unrenderable) else _length(next(ids), next(ids), next(ids)) for item in rendered
        ]

    def _tokenize(self, batch: list[str]) -> list[list[int]]:
        if self._special_tokens is None:
            return self._tokenize_whole(batch)
        found = self._tokenize_pieces(batch, self._special_tokens)
        if self._unchecked > 0:
            sample = batch[: self._unchecked]
            self._unchecked -= len(sample)
            if self._tokenize_whole(sample) != found[: len(sample)]:
                self._special_tokens = None
                return self._tokenize_whole(batch)
        return found

    def _tokenize_pieces(self, batch: list[str], special_tokens: re.Pattern[str]) -> list[list[int]]:
        if len(self._pieces) > _MOST_PIECES:
            self._pieces.clear()
        pieces = [_split(text, special_tokens) for text in batch]
        new = list(dict.fromkeys(piece for text in pieces for piece in text if piece not in self._pieces))
        self._pieces.update(zip(new, self._tokenize_whole(new), strict=True))
        return [[token for piece in text for token in self._pieces[piece]] for text in pieces]

    def _tokenize_whole(self, batch: list[str]) -> list[list[int]]:
        encoded = self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        return [encoding.ids for encoding in encoded]


def _split(text: str, special_tokens: re.Pattern[str]) -> list[str]:
    """Split before every special token, so that each piece but the first begins with one.

    A tokenizer that treats the beginning of a text specially (SentencePiece inserts a space) then finds a special token
    there and inserts nothing, as in the whole text.
    """
    starts = [0, *(match.start() for match in special_tokens.finditer(text) if match.start()), len(text)]
    return [text[start:end] for start, end in pairwise(starts)]


def _special_token_pattern(tokenizer: Any) -> re.Pattern[str] | None:
    """A pattern of the special tokens at which text can be split; None if any also matches the text next to it."""
    added = [token for token in tokenizer.get_added_tokens_decoder().values() if not token.normalized]
    if not added or any(token.lstrip or token.rstrip or token.single_word for token in added):
        return None
    longest_first = sorted((token.content for token in added), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)))


def _length(prompt: list[int], chosen: list[int], rejected: list[int]) -> Length:
    shared = min(_common_prefix(prompt, chosen), _common_prefix(prompt, rejected))
    return Length(shared, len(chosen) - shared, len(rejected) - shared)


def _common_prefix(left: list[int], right: list[int]) -> int:
    if right[: len(left)] == left:  # nearly always, and much faster than the loop
        return len(left)
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return index
    return min(len(left), len(right))
