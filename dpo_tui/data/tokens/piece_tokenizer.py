"""Token ids of many rendered texts, of which several have a part in common: the common part is tokenised once.

Tokenizers split text at special tokens before anything else, so the pieces between them can be tokenised by themselves
and reused: the prompt of a pair once instead of three times. A :class:`PieceTokenizer` compares that with the tokens of
whole texts on its first ones, and tokenises whole texts if they differ.
"""

import re
from itertools import pairwise
from typing import Any

_CHECKED_TEXTS = 48
_MOST_TOKENS = 1_000_000
"""Token ids of pieces that are cached, about 36 MB. Most pieces occur in one pair only, system prompts in all; a bound
of their number alone would let long ones take gigabytes in each process."""


class PieceTokenizer:
    """Tokenises rendered texts, without adding special tokens.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``; it neither truncates nor pads from now on.
    """

    def __init__(self, tokenizer: Any) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._special_tokens = _special_token_pattern(tokenizer)
        self._pieces: dict[str, list[int]] = {}
        self._cached_tokens = 0
        self._unchecked = _CHECKED_TEXTS

    def ids(self, batch: list[str]) -> list[list[int]]:
        """The token ids of each text; call it with hundreds of texts at a time."""
        if self._special_tokens is None:
            return self._whole(batch)
        found = self._by_pieces(batch, self._special_tokens)
        if self._unchecked > 0:
            sample = batch[: self._unchecked]
            self._unchecked -= len(sample)
            if self._whole(sample) != found[: len(sample)]:
                self._special_tokens = None
                return self._whole(batch)
        return found

    def _by_pieces(self, batch: list[str], special_tokens: re.Pattern[str]) -> list[list[int]]:
        if self._cached_tokens > _MOST_TOKENS:
            self._pieces.clear()
            self._cached_tokens = 0
        pieces = [_split(text, special_tokens) for text in batch]
        new = list(dict.fromkeys(piece for text in pieces for piece in text if piece not in self._pieces))
        ids = self._whole(new)
        self._pieces.update(zip(new, ids, strict=True))
        self._cached_tokens += sum(map(len, ids))
        return [[token for piece in text for token in self._pieces[piece]] for text in pieces]

    def _whole(self, batch: list[str]) -> list[list[int]]:
        encoded = self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        return [encoding.ids for encoding in encoded]


def common_prefix(left: list[int], right: list[int]) -> int:
    """How many ids two sequences have in common from their beginning on."""
    if right[: len(left)] == left:  # nearly always, and much faster than the loop
        return len(left)
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return index
    return min(len(left), len(right))


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
