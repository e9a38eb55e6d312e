"""Count the tokens of each pair, and predict which pairs TRL will drop and which answers it will truncate.

This mirrors ``DPOTrainer._prepare_dataset`` of TRL 1.16: the prompt is rendered with the generation prompt, then prompt
and answer together; the prompt's length is the common prefix of all three renderings, and a pair whose prompt alone
fills ``max_length`` is dropped without a message. One function, :func:`is_kept`, decides; the scan and the tests of the
worker both use it.

The text is tokenised by :mod:`dpo_tui.data.tokens.piece_tokenizer`, the prompt once instead of three times.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_tui.data.load_demonstrations import Demonstration
from dpo_tui.data.pairs.pair import Pair
from dpo_tui.data.tokens.chat_template import ChatTemplate, Unrenderable, render, render_or_none
from dpo_tui.data.tokens.load_template import load_limited_template, load_template
from dpo_tui.data.tokens.piece_tokenizer import PieceTokenizer, common_prefix
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings
from dpo_tui.data.tokens.tool_arguments import with_arguments_for, with_pair_arguments_for
from dpo_tui.errors import DataError


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
        self.own_template = own_template
        self._tokenizer = tokenizer
        self._pieces = PieceTokenizer(tokenizer)
        self._template = template

    @classmethod
    def from_folder(
        cls, folder: Path, settings: TemplateSettings | None = None, *, in_scan: bool = False
    ) -> "TokenCounter":
        """Load the tokenizer of a model folder, and its chat template with the settings of a run.

        Args:
            folder: of the model.
            settings: of the run.
            in_scan: render in this process, which is one of a scan: asking another one takes longer than rendering.

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
        template: ChatTemplate
        template, own = (load_limited_template if in_scan else load_template)(folder, settings)
        return cls(tokenizer, template, own_template=own)

    def lengths(self, pairs: list[Pair]) -> list[Length | Unrenderable]:
        """Count the tokens of some pairs; call it with hundreds of pairs at a time."""
        rendered = [render(self._template, pair) for pair in with_pair_arguments_for(self._template, pairs)]
        texts = [text for item in rendered if not isinstance(item, Unrenderable) for text in item]
        ids = iter(self._pieces.ids(texts))
        return [
            item if isinstance(item, Unrenderable) else _length(next(ids), next(ids), next(ids)) for item in rendered
        ]

    def demonstration_lengths(self, rows: list[Demonstration]) -> list[int | None]:
        """Count the tokens of some demonstrations; None for one that the template refuses.

        Plain text gets the tokenizer's special tokens and an end token, as in SFTTrainer.
        """
        rendered = [None if row.text is not None else self._rendered(row) for row in rows]
        ids = iter(self._pieces.ids([text for text in rendered if text is not None]))
        texts = [row.text for row in rows if row.text is not None]
        plain = iter(self._tokenizer.encode_batch_fast(texts, add_special_tokens=True))
        return [
            len(next(plain).ids) + 1 if row.text is not None else None if text is None else len(next(ids))
            for row, text in zip(rows, rendered, strict=True)
        ]

    def _rendered(self, row: Demonstration) -> str | None:
        (messages,) = with_arguments_for(self._template, [row.messages])
        return render_or_none(self._template, messages, row.tools)


def _length(prompt: list[int], chosen: list[int], rejected: list[int]) -> Length:
    shared = min(common_prefix(prompt, chosen), common_prefix(prompt, rejected))
    return Length(shared, len(chosen) - shared, len(rejected) - shared)
