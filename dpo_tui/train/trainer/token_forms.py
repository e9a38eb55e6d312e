"""Token ids of batches of rows, as TRL's trainers make them of one row after the other: pairs, answers, conversations.

TRL renders and tokenises a row at a time, its prompt up to three times. Here the rows of a batch are rendered by
transformers' ``apply_chat_template``, and :class:`dpo_tui.data.tokens.piece_tokenizer.PieceTokenizer` tokenises what
the texts of a row share once. That this gives TRL's ids is looked at on rows of every dataset
(:mod:`dpo_tui.train.trainer.tokenised_rows`).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar, Protocol

import pyarrow as pa

from dpo_tui.data.tokens.pair_lengths import is_kept
from dpo_tui.data.tokens.piece_tokenizer import PieceTokenizer, common_prefix

ID_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
"""Columns of a tokenised pair, as ``DPOTrainer._prepare_dataset`` names them."""
_IDS = pa.list_(pa.int32())
_IGNORED = -100
_Rows = dict[str, list[Any]]


@dataclass(frozen=True)
class Rendering:
    """What rows are tokenised with.

    Args:
        tokenizer: a fast one, with its chat template.
        pieces: of its backend.
        arguments: TRL's.
    """

    tokenizer: Any
    pieces: PieceTokenizer
    arguments: Any


class TokenForm(Protocol):
    """How rows of one form become token ids.

    Attributes:
        schema: of the tokenised rows, with TRL's names.
    """

    @property
    def schema(self) -> pa.Schema: ...  # noqa: D102

    def takes(self, dataset: Any) -> bool:
        """Whether the rows of a dataset have this form."""

    def values(self, rows: _Rows, rendering: Rendering) -> Iterator[tuple[Any, ...]]:
        """The values of rows in the columns of the schema; of rows that TRL leaves out, none."""


def _has_columns(dataset: Any, *wanted: str) -> bool:
    return set(wanted) <= set(dataset.column_names) <= {*wanted, "tools"}


@dataclass(frozen=True)
class PairForm:
    """Preference pairs, for DPOTrainer."""

    schema: ClassVar[pa.Schema] = pa.schema([(name, _IDS) for name in ID_COLUMNS])

    def takes(self, dataset: Any) -> bool:
        """Whether the rows are pairs of messages."""
        return _has_columns(dataset, "prompt", "chosen", "rejected") and isinstance(dataset[0]["prompt"], list)

    def values(self, rows: _Rows, rendering: Rendering) -> Iterator[tuple[Any, ...]]:
        """Prompt, chosen and rejected ids of rows, divided as TRL divides them."""
        most, truncation = rendering.arguments.max_length, rendering.arguments.truncation_mode
        for prompt, (chosen, rejected) in _ids_with_answers(rows, ("chosen", "rejected"), rendering):
            # Where the tokens of prompt and answer merge, or the template writes the prompt alone otherwise, the answer
            # begins where the texts' tokens differ: TRL cuts all three there.
            shared = min(common_prefix(prompt, chosen), common_prefix(prompt, rejected))
            if is_kept(shared, most, truncation):
                yield prompt[:shared], chosen[shared:], rejected[shared:]


@dataclass(frozen=True)
class AnswerForm:
    """Labelled answers, for KTOTrainer; the ids of its KL term are added later, for they are of other rows."""

    schema: ClassVar[pa.Schema] = pa.schema([("label", pa.bool_()), ("prompt_ids", _IDS), ("completion_ids", _IDS)])

    def takes(self, dataset: Any) -> bool:
        """Whether the rows are labelled answers of messages."""
        return _has_columns(dataset, "prompt", "completion", "label") and isinstance(dataset[0]["prompt"], list)

    def values(self, rows: _Rows, rendering: Rendering) -> Iterator[tuple[Any, ...]]:
        """Label, prompt ids and completion ids of rows."""
        found = _ids_with_answers(rows, ("completion",), rendering)
        for label, (prompt, (whole,)) in zip(rows["label"], found, strict=True):
            shared = common_prefix(prompt, whole)
            if is_kept(shared, rendering.arguments.max_length):
                yield label, prompt[:shared], whole[shared:]


@dataclass(frozen=True)
class ConversationForm:
    """Demonstrations, for SFTTrainer: conversations, prompts with their completion, or plain text.

    Args:
        chat_template: the template that TRL renders with; None for the tokenizer's own.
        completion_only: whether only completions have labels; prompts with completions are taken for that alone.
        assistant_only: whether only what the template marks as answers has labels.
        is_packed: whether rows are packed afterwards, which leaves them whole.
    """

    chat_template: str | None
    completion_only: bool
    assistant_only: bool
    is_packed: bool
    schema: ClassVar[pa.Schema] = pa.schema([("input_ids", _IDS), ("labels", _IDS)])

    def takes(self, dataset: Any) -> bool:
        """Whether the rows are demonstrations of messages, or text."""
        if _has_columns(dataset, "messages"):
            return isinstance(dataset[0]["messages"], list)
        if _has_columns(dataset, "prompt", "completion"):
            return isinstance(dataset[0]["prompt"], list) and self.completion_only and not self.assistant_only
        return list(dataset.column_names) == ["text"]

    def values(self, rows: _Rows, rendering: Rendering) -> Iterator[tuple[Any, ...]]:
        """Token ids and labels of rows, truncated as TRL truncates them."""
        most = None if self.is_packed else rendering.arguments.max_length
        part = slice(None)
        if most is not None:
            part = slice(most) if rendering.arguments.truncation_mode == "keep_start" else slice(-most, None)
        for ids, labels in self._whole(rows, rendering):
            kept = labels[part]
            if most is None or any(label != _IGNORED for label in kept):
                yield ids[part], kept

    def _whole(self, rows: _Rows, rendering: Rendering) -> Iterator[tuple[list[int], list[int]]]:
        options = {} if self.chat_template is None else {"chat_template": self.chat_template}
        if "text" in rows:
            end = rendering.tokenizer.eos_token
            texts = [text if text.endswith(end) else text + end for text in rows["text"]]
            for ids in rendering.tokenizer(text=texts)["input_ids"]:
                yield ids, ids
        elif "prompt" in rows:
            for prompt, (whole,) in _ids_with_answers(rows, ("completion",), rendering, **options):
                shared = common_prefix(prompt, whole)
                yield whole, [_IGNORED] * shared + whole[shared:]
        else:
            for tools, numbers in _by_tools(rows, len(rows["messages"])):
                some = [rows["messages"][number] for number in numbers]
                yield from self._conversations(some, rendering, tools=tools, **options)

    def _conversations(
        self, some: list[Any], rendering: Rendering, **options: Any
    ) -> Iterator[tuple[list[int], list[int]]]:
        render = rendering.tokenizer.apply_chat_template
        if not self.assistant_only:
            for ids in rendering.pieces.ids(render(some, tokenize=False, **options)):
                yield ids, ids
            return
        found = render(some, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, **options)
        for ids, mask in zip(found["input_ids"], found["assistant_masks"], strict=True):
            if 1 not in mask:
                raise RuntimeError("A conversation has no token that the chat template marks as an answer's")
            yield ids, [token if marked else _IGNORED for token, marked in zip(ids, mask, strict=True)]


def _by_tools(rows: _Rows, count: int) -> Iterator[tuple[Any, list[int]]]:
    """Numbers of consecutive rows with the same tools: transformers takes one list for all conversations of a call."""
    tools = rows.get("tools") or [None] * count
    for schemas, group in groupby(range(count), key=tools.__getitem__):
        yield json.loads(schemas) if isinstance(schemas, str) else schemas, list(group)


def _ids_with_answers(
    rows: _Rows, names: tuple[str, ...], rendering: Rendering, **options: Any
) -> Iterator[tuple[list[int], list[list[int]]]]:
    """For each row the ids of its prompt for generation, and of its prompt with each of some answers.

    Args:
        rows: a batch.
        names: of the columns of answers.
        rendering: see there.
        **options: of ``apply_chat_template``.
    """
    render = rendering.tokenizer.apply_chat_template
    texts: list[str] = []
    for tools, numbers in _by_tools(rows, len(rows["prompt"])):
        prompts = [rows["prompt"][number] for number in numbers]
        for_generation = render(prompts, tools=tools, add_generation_prompt=True, tokenize=False, **options)
        answered = [
            prompt + rows[name][number] for prompt, number in zip(prompts, numbers, strict=True) for name in names
        ]
        with_answers = render(answered, tools=tools, tokenize=False, **options)
        each = len(names)
        for index, prompt in enumerate(for_generation):
            texts += [prompt, *with_answers[each * index : each * (index + 1)]]
    ids = iter(rendering.pieces.ids(texts))
    for _ in rows["prompt"]:
        prompt_ids = next(ids)
        yield prompt_ids, [next(ids) for _ in names]
