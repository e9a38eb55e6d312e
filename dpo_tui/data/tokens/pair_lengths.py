"""How many tokens each pair has, which pairs TRL will drop and which answers it will cut.

This mirrors ``DPOTrainer._prepare_dataset`` of TRL 1.16: the prompt is rendered with the generation prompt, prompt and
answer together, the prompt's length is what all three renderings begin with, and a pair whose prompt alone fills
``max_length`` is dropped without a word. One function, :func:`kept`, decides; the scan and the tests of the worker both
use it.

Tokenizers cut text at special tokens before anything else, so the pieces between them can be counted once and reused:
the prompt is tokenized once instead of three times. Every :class:`TokenCounter` checks that on its first rows against
the whole text, and counts whole texts if a tokenizer disagrees.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from dpo_tui.data.pairs.pair import Pair
from dpo_tui.data.tokens.chat_template import ChatTemplate, load_template
from dpo_tui.errors import DataError

_CHECKED_TEXTS = 48
_MOST_PIECES = 20_000
"""Pieces that are remembered; most are met in one pair only, system prompts in all."""


@dataclass(frozen=True, slots=True)
class Length:
    """Tokens of one pair.

    Args:
        prompt: what all renderings of the pair begin with.
        chosen: the chosen answer, with what the template adds after it.
        rejected: the rejected answer, likewise.
    """

    prompt: int
    chosen: int
    rejected: int


@dataclass(frozen=True, slots=True)
class TemplateRefusal:
    """A pair that the chat template refuses to render; training leaves it out."""

    reason: str


def kept(prompt_tokens: int, max_length: int | None, truncation: str = "keep_start") -> bool:
    """Whether TRL keeps a pair: with ``keep_start`` a prompt that fills ``max_length`` leaves no room for an answer."""
    return max_length is None or truncation != "keep_start" or prompt_tokens < max_length


def truncated(length: Length, max_length: int | None) -> int:
    """How many of the two answers of a pair TRL will cut, 0 to 2."""
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
        self._cuts = _cut_pattern(tokenizer)
        self._pieces: dict[str, list[int]] = {}
        self._unchecked = _CHECKED_TEXTS

    @classmethod
    def from_folder(cls, folder: Path) -> "TokenCounter":
        """Load the tokenizer of a model folder.

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
        template, own = load_template(folder)
        return cls(tokenizer, template, own_template=own)

    def lengths(self, pairs: list[Pair]) -> list[Length | TemplateRefusal]:
        """Count the tokens of some pairs; call it with hundreds of pairs at a time."""
        rendered = [render(self._template, pair) for pair in pairs]
        texts = [text for item in rendered if not isinstance(item, TemplateRefusal) for text in item]
        ids = iter(self._ids(texts))
        return [
            item if isinstance(item, TemplateRefusal) else _length(next(ids), next(ids), next(ids)) for item in rendered
        ]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        if self._cuts is None:
            return self._whole(texts)
        found = self._by_piece(texts, self._cuts)
        if self._unchecked > 0:
            sample = texts[: self._unchecked]
            self._unchecked -= len(sample)
            if self._whole(sample) != found[: len(sample)]:
                self._cuts = None
                return self._whole(texts)
        return found

    def _by_piece(self, texts: list[str], cuts: re.Pattern[str]) -> list[list[int]]:
        if len(self._pieces) > _MOST_PIECES:
            self._pieces.clear()
        pieces = [_split(text, cuts) for text in texts]
        new = list(dict.fromkeys(piece for text in pieces for piece in text if piece not in self._pieces))
        self._pieces.update(zip(new, self._whole(new), strict=True))
        return [[token for piece in text for token in self._pieces[piece]] for text in pieces]

    def _whole(self, texts: list[str]) -> list[list[int]]:
        encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [one.ids for one in encoded]


def render(template: ChatTemplate, pair: Pair) -> tuple[str, str, str] | TemplateRefusal:
    """Render prompt, prompt and chosen, prompt and rejected, as TRL does."""
    import jinja2

    try:
        return (
            template.render(pair.prompt, tools=pair.tools, add_generation_prompt=True),
            template.render(pair.prompt + pair.chosen, tools=pair.tools),
            template.render(pair.prompt + pair.rejected, tools=pair.tools),
        )
    except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
        return TemplateRefusal((str(error).splitlines() or [type(error).__name__])[0])


def _split(text: str, cuts: re.Pattern[str]) -> list[str]:
    """Cut before every special token, so that a token leads the piece behind it.

    A tokenizer that treats the beginning of a text otherwise (SentencePiece puts a space there) then sees only the
    token at the beginning of a later piece, as in the whole text.
    """
    starts = [0, *(match.start() for match in cuts.finditer(text) if match.start()), len(text)]
    return [text[start:end] for start, end in pairwise(starts)]


def _cut_pattern(tokenizer: Any) -> re.Pattern[str] | None:
    """The special tokens at which text may be cut, or None if the tokenizer lets them swallow what is beside them."""
    added = [token for token in tokenizer.get_added_tokens_decoder().values() if not token.normalized]
    if not added or any(token.lstrip or token.rstrip or token.single_word for token in added):
        return None
    longest_first = sorted((token.content for token in added), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)))


def _length(prompt: list[int], chosen: list[int], rejected: list[int]) -> Length:
    shared = min(_shared(prompt, chosen), _shared(prompt, rejected))
    return Length(shared, len(chosen) - shared, len(rejected) - shared)


def _shared(prompt: list[int], both: list[int]) -> int:
    if both[: len(prompt)] == prompt:
        return len(prompt)
    for at, (one, other) in enumerate(zip(prompt, both, strict=False)):
        if one != other:
            return at
    return min(len(prompt), len(both))
