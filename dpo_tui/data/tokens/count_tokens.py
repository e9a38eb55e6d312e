"""Count the tokens of all pairs in several processes: a sample for an estimate within a second, then everything."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpo_tui.data.load_pairs import usable_turns
from dpo_tui.data.pairs.pair import Pair, Unreadable, pair_of
from dpo_tui.data.rows.recogniser import Recogniser
from dpo_tui.data.rows.shapes import ColumnMapping
from dpo_tui.data.source.chunks import Chunk, TextChunk, chunks_of, first_rows, rows
from dpo_tui.data.source.source import DataFile, Source
from dpo_tui.data.tokens.length_histogram import LengthHistogram, TokenFigures
from dpo_tui.data.tokens.pair_lengths import Length, TokenCounter, kept, truncated
from dpo_tui.hub.tokenizer_files import tokenizer_folder
from dpo_tui.processes.process_pool import run_in_order

SAMPLED = 2000
"""Pairs that the first estimate looks at; with fewer than twice as many everything is counted at once."""
_SAMPLE_PIECES = 50
_PIECE = 1 << 16
_PORTION = 1 << 19
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class _Task:
    chunk: Chunk
    most: int | None


@dataclass(frozen=True, slots=True)
class _Counted:
    lengths: NDArray[np.int64]
    refused: int


def count_tokens(
    files: list[DataFile], source: Source, model: str, max_length: int | None, *, usable: int, workers: int
) -> Iterator[TokenFigures]:
    """Count tokens as TRL will.

    Args:
        files: the dataset.
        source: its mapping and its limit of rows.
        model: a model's folder or hub id.
        max_length: what TRL keeps of prompt and answer.
        usable: how many pairs there are.
        workers: how many processes.

    Yields:
        Figures: first an estimate if the dataset is large, later better ones, at last exact ones.

    Raises:
        DataError: the model has no tokenizer that can be read.
    """
    folder = tokenizer_folder(model)
    own_template = TokenCounter.from_folder(folder).own_template
    if usable > 2 * SAMPLED:
        tally = _Tally(max_length, own_template)
        for counted in _counted(_sample(files, source), source.mapping, folder, 1):
            tally.add(counted)
        yield tally.figures(exact=False)
    tally = _Tally(max_length, own_template)
    for counted in _counted(_all(files, source), source.mapping, folder, workers):
        tally.add(counted)
        if usable > 2 * SAMPLED:
            yield tally.figures(exact=False)
    yield tally.figures(exact=True)


class _Tally:
    def __init__(self, max_length: int | None, own_template: bool) -> None:
        self._max_length = max_length
        self._own_template = own_template
        self._counted = self._drop = self._truncate = self._refused = 0
        self._histograms = {name: LengthHistogram() for name in ("prompt", "chosen", "rejected", "longest")}

    def add(self, counted: _Counted) -> None:
        lengths = counted.lengths
        self._counted += len(lengths) + counted.refused
        self._refused += counted.refused
        for column, name in enumerate(("prompt", "chosen", "rejected")):
            self._histograms[name].add(lengths[:, column])
        self._histograms["longest"].add(lengths[:, 0] + np.maximum(lengths[:, 1], lengths[:, 2]))
        for prompt, chosen, rejected in lengths.tolist():
            if kept(prompt, self._max_length):
                self._truncate += truncated(Length(prompt, chosen, rejected), self._max_length)
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
            refused=self._refused,
            keeps={"95": longest.quantile(0.95), "99": longest.quantile(0.99), "100": longest.largest},
            own_template=self._own_template,
        )


def _sample(files: list[DataFile], source: Source) -> Iterator[_Task]:
    each = SAMPLED // _SAMPLE_PIECES
    for file in files:
        size = file.path.stat().st_size
        step = max(1, size // _PIECE // _SAMPLE_PIECES)
        taken = islice(_limited(file, source, _PIECE), 0, None, step)
        for chunk in islice(taken, _SAMPLE_PIECES):
            yield _Task(chunk, each)


def _all(files: list[DataFile], source: Source) -> Iterator[_Task]:
    for file in files:
        for chunk in _limited(file, source, _PORTION):
            yield _Task(chunk, None)


def _limited(file: DataFile, source: Source, size: int) -> Iterator[Chunk]:
    found = chunks_of(file, size)
    return found if source.max_rows is None else first_rows(found, source.max_rows)


def _counted(tasks: Iterator[_Task], mapping: ColumnMapping, folder: Path, workers: int) -> Iterator[_Counted]:
    # The library's own threads would fight with the processes for the cores.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return run_in_order(_count, tasks, workers=workers, prepare=_prepare, arguments=(mapping, folder))


_TOOLS: list[tuple[Recogniser, TokenCounter]] = []


def _prepare(mapping: ColumnMapping, folder: Path) -> None:
    _TOOLS[:] = [(Recogniser(mapping), TokenCounter.from_folder(folder))]


def _count(task: _Task) -> _Counted:
    recogniser, counter = _TOOLS[0]
    recogniser.cells = isinstance(task.chunk, TextChunk) and task.chunk.cells
    lengths: list[tuple[int, int, int]] = []
    refused = 0
    pairs = islice(_pairs(task.chunk, recogniser), task.most)
    while batch := list(islice(pairs, _AT_ONCE)):
        for found in counter.lengths(batch):
            if isinstance(found, Length):
                lengths.append((found.prompt, found.chosen, found.rejected))
            else:
                refused += 1
    return _Counted(np.array(lengths, dtype=np.int64).reshape(-1, 3), refused)


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
