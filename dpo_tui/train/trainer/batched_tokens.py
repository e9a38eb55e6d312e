"""Token ids of a dataset, a batch of rows after the other, in one process or several.

:mod:`dpo_tui.train.trainer.token_forms` makes the ids of the rows of a batch.
"""

import os
from array import array
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from dpo_tui.data.tokens.piece_tokenizer import PieceTokenizer
from dpo_tui.processes.process_pool import run_in_order
from dpo_tui.train.trainer.token_forms import Rendering, TokenForm

BATCH_ROWS = 500
_SAMPLED_ROWS = 24


def can_tokenise(dataset: Any, tokenizer: Any, form: TokenForm) -> bool:
    """Whether rows are tokenised here: by a fast tokenizer that splits text at special tokens, rows of the form."""
    if not getattr(tokenizer, "is_fast", False) or getattr(tokenizer, "split_special_tokens", True):
        return False
    return form.takes(dataset)


def sample_rows(dataset: Any) -> list[int]:
    """The numbers of some rows, spread over the data, on which to compare with TRL's ids."""
    return sorted({number * (len(dataset) - 1) // (_SAMPLED_ROWS - 1) for number in range(_SAMPLED_ROWS)})


def tokenised_batches(
    dataset: Any, tokenizer: Any, arguments: Any, form: TokenForm, processes: int = 1
) -> Iterator[pa.RecordBatch]:
    """Tokenise rows, and leave out those that TRL would leave out.

    Args:
        dataset: rows for which :func:`can_tokenise` is true.
        tokenizer: with its chat template.
        arguments: TRL's; ``max_length`` and ``truncation_mode`` decide which rows are left out.
        form: of the rows.
        processes: how many to use. With one, the tokenizer's own threads use the cores.

    Yields:
        The rows of one batch after the other, with the schema of the form; of a batch that is left out whole, none.
    """
    starts = range(0, len(dataset), BATCH_ROWS)
    # Handed to forked processes as it is: a dataset of a million rows is neither pickled nor read by more than one.
    for data in run_in_order(
        _tokenise_batch,
        starts,
        workers=processes,
        prepare=_begin if processes <= 1 else _begin_in_child,
        arguments=(dataset, tokenizer, arguments, form),
    ):
        yield from pa.ipc.open_stream(data)


_state: dict[str, Any] = {}


def _begin(dataset: Any, tokenizer: Any, arguments: Any, form: TokenForm) -> None:
    rendering = Rendering(tokenizer, PieceTokenizer(tokenizer.backend_tokenizer), arguments)
    _state.update(dataset=dataset, form=form, rendering=rendering)


def _begin_in_child(*given: Any) -> None:
    # The threads of the tokenizer's pool exist in the parent alone: a forked process would wait for them for ever.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _begin(*given)


def _tokenise_batch(start: int) -> bytes:
    """The tokenised rows of a batch, as a stream of Arrow's: results travel between processes as bytes."""
    dataset, form = _state["dataset"], _state["form"]
    rows = dataset[start : min(start + BATCH_ROWS, len(dataset))]
    columns = [_Column(field.type) for field in form.schema]
    for values in form.values(rows, _state["rendering"]):
        for column, value in zip(columns, values, strict=True):
            column.add(value)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, form.schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([one.array() for one in columns], schema=form.schema))
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


class _Column:
    """A column that grows: of lists of ids, which are never held as Python numbers, or of other values."""

    def __init__(self, kind: pa.DataType) -> None:
        self._kind = kind
        self._ids, self._ends = array("i"), array("i", [0])
        self._values: list[Any] = []

    def add(self, value: Any) -> None:
        if not pa.types.is_list(self._kind):
            self._values.append(value)
            return
        self._ids.fromlist(value)
        self._ends.append(len(self._ids))

    def array(self) -> pa.Array:
        if not pa.types.is_list(self._kind):
            return pa.array(self._values, self._kind)
        return pa.ListArray.from_arrays(_int32(self._ends), _int32(self._ids))


def _int32(values: "array[int]") -> pa.Array:
    return pa.Array.from_buffers(pa.int32(), len(values), [None, pa.py_buffer(values)])
