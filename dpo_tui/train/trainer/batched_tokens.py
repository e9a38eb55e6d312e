"""Token ids of pairs as ``DPOTrainer._prepare_dataset`` makes them, in batches and without its work a row.

TRL renders and tokenises a row at a time, its prompt three times. Here a batch of rows is rendered by transformers'
``apply_chat_template``, and :class:`dpo_tui.data.tokens.piece_tokenizer.PieceTokenizer` tokenises what the three texts
of a pair share once. That this gives TRL's ids is looked at on rows of every dataset: :func:`sample_rows` are those
that the caller has TRL tokenise as well.
"""

import json
import os
from array import array
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pyarrow as pa

from dpo_tui.data.tokens.pair_lengths import is_kept
from dpo_tui.data.tokens.piece_tokenizer import PieceTokenizer, common_prefix
from dpo_tui.processes.process_pool import run_in_order

ID_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
"""Columns of a tokenised pair, as ``DPOTrainer._prepare_dataset`` names them."""
SCHEMA = pa.schema([(name, pa.list_(pa.int32())) for name in ID_COLUMNS])
BATCH_ROWS = 500
_SAMPLED_ROWS = 24

_Ids = tuple[list[int], list[int], list[int]]


def can_tokenise(dataset: Any, tokenizer: Any) -> bool:
    """Whether pairs are tokenised here: by a fast tokenizer that splits text at special tokens, from messages."""
    if not getattr(tokenizer, "is_fast", False) or getattr(tokenizer, "split_special_tokens", True):
        return False
    names = set(dataset.column_names)
    if not {"prompt", "chosen", "rejected"} <= names or names - {"prompt", "chosen", "rejected", "tools"}:
        return False
    return isinstance(dataset[0]["prompt"], list)


def sample_rows(dataset: Any) -> list[int]:
    """The numbers of some rows, spread over the data, on which to compare with TRL's ids."""
    return sorted({number * (len(dataset) - 1) // (_SAMPLED_ROWS - 1) for number in range(_SAMPLED_ROWS)})


def tokenised_batches(dataset: Any, tokenizer: Any, arguments: Any, processes: int = 1) -> Iterator[pa.RecordBatch]:
    """Tokenise pairs, and leave out those of which TRL would drop the whole answers.

    Args:
        dataset: pairs as messages, for which :func:`can_tokenise` is true.
        tokenizer: with its chat template.
        arguments: TRL's; ``max_length`` and ``truncation_mode`` decide which pairs are left out.
        processes: how many to use. With one, the tokenizer's own threads use the cores.

    Yields:
        The rows of one batch after the other, with :data:`SCHEMA`; of a batch that is left out whole, none.
    """
    starts = range(0, len(dataset), BATCH_ROWS)
    # Handed to forked processes as it is: a dataset of a million rows is neither pickled nor read by more than one.
    for data in run_in_order(
        _tokenise_batch,
        starts,
        workers=processes,
        prepare=_begin if processes <= 1 else _begin_in_child,
        arguments=(dataset, tokenizer, arguments),
    ):
        yield from pa.ipc.open_stream(data)


_state: dict[str, Any] = {}


def _begin(dataset: Any, tokenizer: Any, arguments: Any) -> None:
    _state.update(
        dataset=dataset,
        tokenizer=tokenizer,
        pieces=PieceTokenizer(tokenizer.backend_tokenizer),
        most=(arguments.max_length, arguments.truncation_mode),
    )


def _begin_in_child(dataset: Any, tokenizer: Any, arguments: Any) -> None:
    # The threads of the tokenizer's pool exist in the parent alone: a forked process would wait for them for ever.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _begin(dataset, tokenizer, arguments)


def _tokenise_batch(start: int) -> bytes:
    """The tokenised rows of a batch, as a stream of Arrow's: results travel between processes as bytes."""
    dataset, (max_length, truncation) = _state["dataset"], _state["most"]
    rows = dataset[start : min(start + BATCH_ROWS, len(dataset))]
    found = (ids for ids in _ids_of(rows) if is_kept(len(ids[0]), max_length, truncation))
    columns = [array("i"), array("i"), array("i")]
    offsets = [array("i", [0]), array("i", [0]), array("i", [0])]
    for pair in found:
        for column, ends, ids in zip(columns, offsets, pair, strict=True):
            column.fromlist(ids)
            ends.append(len(column))
    arrays = [
        pa.ListArray.from_arrays(_int32(ends), _int32(column)) for column, ends in zip(columns, offsets, strict=True)
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _ids_of(rows: dict[str, list[Any]]) -> Iterator[_Ids]:
    """Prompt, chosen and rejected ids of rows, divided as TRL divides them."""
    prompts = rows["prompt"]
    tools = rows.get("tools") or [None] * len(prompts)
    texts: list[str] = []
    # transformers takes one list of tools for all conversations of a call.
    for schemas, group in groupby(range(len(prompts)), key=tools.__getitem__):
        texts += _rendered(rows, list(group), json.loads(schemas) if isinstance(schemas, str) else schemas)
    ids = iter(_state["pieces"].ids(texts))
    for _ in prompts:
        prompt, chosen, rejected = next(ids), next(ids), next(ids)
        # Where the tokens of prompt and answer merge, or the template writes the prompt alone otherwise, the answer
        # begins where the texts' tokens differ: TRL cuts all three there.
        shared = min(common_prefix(prompt, chosen), common_prefix(prompt, rejected))
        yield prompt[:shared], chosen[shared:], rejected[shared:]


def _rendered(rows: dict[str, list[Any]], numbers: list[int], tools: Any) -> list[str]:
    """The texts of pairs: of each the prompt for generation, the prompt with the chosen, and with the rejected one."""
    render = _state["tokenizer"].apply_chat_template
    prompts = [rows["prompt"][number] for number in numbers]
    for_generation = render(prompts, tools=tools, add_generation_prompt=True, tokenize=False)
    answered = [
        prompt + rows[name][number] for prompt, number in zip(prompts, numbers, strict=True) for name in _ANSWERS
    ]
    with_answers = render(answered, tools=tools, tokenize=False)
    return [
        text
        for index, prompt in enumerate(for_generation)
        for text in (prompt, *with_answers[2 * index : 2 * index + 2])
    ]


_ANSWERS = ("chosen", "rejected")


def _int32(values: "array[int]") -> pa.Array:
    return pa.Array.from_buffers(pa.int32(), len(values), [None, pa.py_buffer(values)])
