"""Count the tokens of all pairs in several processes: of a sample first, for an early estimate, then of all pairs."""

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpo_tui.data.load_pairs import usable_turns
from dpo_tui.data.pairs.pair import Pair, Unreadable, pair_of
from dpo_tui.data.rows.column_shapes import ColumnMapping
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.source.chunks import Chunk, RowLimit, TextChunk, rows
from dpo_tui.data.source.source import DataFile, Source
from dpo_tui.data.tokens.length_histogram import LengthHistogram, TokenFigures
from dpo_tui.data.tokens.pair_lengths import Length, TokenCounter, is_kept, truncated_answers
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings
from dpo_tui.hub.tokenizer_files import tokenizer_folder
from dpo_tui.processes.process_pool import run_in_order

SAMPLED = 2000
"""Pairs in the sample; if there are fewer than twice as many, all are counted at once."""
_SAMPLE_CHUNKS = 50
SAMPLE_CHUNK_BYTES = 1 << 16
"""A sample is taken from chunks of this size, spread over each file."""
_CHUNK_BYTES = 1 << 19
_BATCH = 500


@dataclass(frozen=True, slots=True)
class _Task:
    """Count the pairs of a chunk, or the first ``limit`` of them."""

    chunk: Chunk
    limit: int | None


@dataclass(frozen=True, slots=True)
class _ChunkLengths:
    """Tokens of the pairs of a chunk (a row each: prompt, chosen, rejected), and how many could not be rendered."""

    lengths: NDArray[np.int64]
    unrenderable: int


def count_tokens(
    files: list[DataFile],
    source: Source,
    model: str,
    max_length: int | None,
    *,
    usable: int,
    workers: int,
    truncation: str = "keep_start",
    settings: TemplateSettings | None = None,
) -> Iterator[TokenFigures]:
    """Count the tokens that training with TRL will see.

    Args:
        files: the dataset.
        source: its column mapping and its maximum number of rows.
        model: a model's folder or hub id.
        max_length: tokens that TRL keeps of prompt and answer.
        usable: how many pairs there are.
        workers: how many processes.
        truncation: which end of a pair that is too long TRL keeps; with ``keep_end`` it drops none.
        settings: of the chat template.

    Yields:
        For a large dataset an estimate first, then ever better ones; the exact counts last.

    Raises:
        DataError: the model has no tokenizer that can be read.
    """
    folder = tokenizer_folder(model)
    own_template = TokenCounter.from_folder(folder, settings).own_template
    if usable > 2 * SAMPLED:
        tally = _Tally(max_length, own_template, truncation)
        for counted in _count_chunks(_sample(files, source), source.mapping, folder, settings, 1):
            tally.add(counted)
        yield tally.figures(exact=False)
    tally = _Tally(max_length, own_template, truncation)
    for counted in _count_chunks(_all(files, source), source.mapping, folder, settings, workers):
        tally.add(counted)
        if usable > 2 * SAMPLED:
            yield tally.figures(exact=False)
    yield tally.figures(exact=True)


def sample_pairs(files: list[DataFile], source: Source) -> list[Pair]:
    """Read pairs that are spread over the files, to render some of them."""
    recogniser = Recogniser(source.mapping)
    found: list[Pair] = []
    for task in _sample(files, source):
        recogniser.cells = isinstance(task.chunk, TextChunk) and task.chunk.cells
        found += islice(_pairs(task.chunk, recogniser), task.limit)
    return found


class _Tally:
    """The running token counts."""

    def __init__(self, max_length: int | None, own_template: bool, truncation: str) -> None:
        self._truncation = truncation
        self._max_length = max_length
        self._own_template = own_template
        self._counted = self._drop = self._truncate = self._unrenderable = 0
        self._histograms = {name: LengthHistogram() for name in ("prompt", "chosen", "rejected", "longest")}

    def add(self, counted: _ChunkLengths) -> None:
        lengths = counted.lengths
        self._counted += len(lengths) + counted.unrenderable
        self._unrenderable += counted.unrenderable
        for column, name in enumerate(("prompt", "chosen", "rejected")):
            self._histograms[name].add(lengths[:, column])
        self._histograms["longest"].add(lengths[:, 0] + np.maximum(lengths[:, 1], lengths[:, 2]))
        for prompt, chosen, rejected in lengths.tolist():
            if is_kept(prompt, self._max_length, self._truncation):
                self._truncate += truncated_answers(Length(prompt, chosen, rejected), self._max_length)
            else:
                self._drop += 1

    def figures(self, *, exact: bool) -> TokenFigures:
        longest = self._histograms["longest"]
        return TokenFigures(
            counted=self._counted,
            exact=exact,
            summaries={name: histogram.summary() for name, histogram in self._histograms.items()},
            will_drop=self._drop,
            will_truncate=self._truncate,
            unrenderable=self._unrenderable,
            keeps={"95": longest.quantile(0.95), "99": longest.quantile(0.99), "100": longest.largest},
            own_template=self._own_template,
        )


def _sample(files: list[DataFile], source: Source) -> Iterator[_Task]:
    pairs_a_chunk = SAMPLED // _SAMPLE_CHUNKS
    limit = RowLimit(source.rows_read)
    for file in files:
        size = file.path.stat().st_size
        step = max(1, size // SAMPLE_CHUNK_BYTES // _SAMPLE_CHUNKS)
        found = limit.of(file, SAMPLE_CHUNK_BYTES)
        for chunk in islice(islice(found, 0, None, step), _SAMPLE_CHUNKS):
            yield _Task(chunk, pairs_a_chunk)
        if limit.left is not None:
            deque(found, maxlen=0)  # its other rows count as well


def _all(files: list[DataFile], source: Source) -> Iterator[_Task]:
    limit = RowLimit(source.rows_read)
    for file in files:
        for chunk in limit.of(file, _CHUNK_BYTES):
            yield _Task(chunk, None)


def _count_chunks(
    tasks: Iterator[_Task], mapping: ColumnMapping, folder: Path, settings: TemplateSettings | None, workers: int
) -> Iterator[_ChunkLengths]:
    # The threads of the tokenizers library would compete with the processes for the cores.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return run_in_order(_count_chunk, tasks, workers=workers, prepare=_load, arguments=(mapping, folder, settings))


# The recogniser and tokenizer of this process of the pool: one element once `_load` was called.
_LOADED: list[tuple[Recogniser, TokenCounter]] = []


def _load(mapping: ColumnMapping, folder: Path, settings: TemplateSettings | None) -> None:
    _LOADED[:] = [(Recogniser(mapping), TokenCounter.from_folder(folder, settings, in_scan=True))]


def _count_chunk(task: _Task) -> _ChunkLengths:
    recogniser, counter = _LOADED[0]
    recogniser.cells = isinstance(task.chunk, TextChunk) and task.chunk.cells
    lengths: list[tuple[int, int, int]] = []
    unrenderable = 0
    pairs = islice(_pairs(task.chunk, recogniser), task.limit)
    while batch := list(islice(pairs, _BATCH)):
        for found in counter.lengths(batch):
            if isinstance(found, Length):
                lengths.append((found.prompt, found.chosen, found.rejected))
            else:
                unrenderable += 1
    return _ChunkLengths(np.array(lengths, dtype=np.int64).reshape(-1, 3), unrenderable)


def _pairs(chunk: Chunk, recogniser: Recogniser) -> Iterator[Pair]:
    for batch in rows(chunk):
        for row in batch:
            if row is None:
                continue
            try:
                turns = usable_turns(row, recogniser)
            except Unreadable:
                continue
            yield from (pair_of(0, one) for one in turns)
