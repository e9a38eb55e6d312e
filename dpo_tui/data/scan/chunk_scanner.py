"""Examine one portion: its pairs side by side, the checks over them, and what the whole dataset needs to know of it.

This is the part of a scan that runs in several processes, so it takes a portion and gives numbers back, never texts.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dpo_tui.data.checks.check import Check
from dpo_tui.data.checks.pair_columns import PairColumns
from dpo_tui.data.rows.recogniser import Recogniser
from dpo_tui.data.scan.pair_batcher import KEPT_MESSAGES, PairBatch, PairBatcher
from dpo_tui.data.source.chunks import Chunk, LineChunk, RowGroupChunk, TextChunk, read_bytes, rows

OPENING = 20
"""Characters of a prompt that count as its opening."""
BUCKETS = 4096
# Shares of a whole dataset are as good from every eighth pair as from all: with hundreds in each portion the error is
# far below the thresholds.
_MANY, _EVERY = 512, 8
_REFUSALS = (
    "I'm sorry",
    "I’m sorry",
    "I am sorry",
    "I'm very sorry",
    "I'm so sorry",
    "Sorry",
    "I can't",
    "I can’t",
    "I cannot",
    "I'm not able",
    "I am not able",
    "I'm unable",
    "I am unable",
    "I won't",
    "I won’t",
    "I will not",
    "As an AI",
    "Unfortunately, I can",
    "I apologize",
    "I don't feel comfortable",
    "I’m not able",
)
_REFUSAL_BEGINNINGS = frozenset(refusal[:4] for refusal in _REFUSALS)


@dataclass
class ChunkStats:
    """What one portion gave.

    Args:
        flags: one number a row, a bit a check; blank rows have only BLANK.
        row_of_pair: the row of each usable pair, from 0.
        prompts: a hash of each pair's prompt.
        pairs: a hash of each pair that is the same for its swapped twin but for the lowest bit.
        lengths: characters of prompts, chosen and rejected answers.
        sampled: how many pairs the two shares below were taken from; all of a small file, every eighth of a large one.
        refusals: of these, answers that refuse, chosen and rejected.
        openings: how many of these prompts fall into each bucket of openings.
        opening_texts: one opening for each bucket that is new.
        formats: how often each format was met.
        evidence: the columns of each format.
        messages: a few problems in words, by check.
        notes: what was odd about the file.
    """

    flags: NDArray[np.uint32]
    row_of_pair: NDArray[np.int32]
    prompts: NDArray[np.uint64]
    pairs: NDArray[np.uint64]
    lengths: tuple[NDArray[np.int32], ...]
    sampled: int
    refusals: tuple[int, int]
    openings: NDArray[np.int64]
    opening_texts: dict[int, str]
    formats: Counter[str]
    evidence: dict[str, dict[str, str]]
    messages: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class ChunkScanner:
    """Examines portions with one recogniser and the registered checks."""

    def __init__(self, recogniser: Recogniser, checks: dict[str, Check]) -> None:
        self.recogniser = recogniser
        self._checks = checks
        self._gatherer = PairBatcher(recogniser, checks)

    def examine(self, chunk: Chunk) -> ChunkStats:
        """Read a portion and run every pair check over it."""
        self.recogniser.formats = Counter()
        self.recogniser.cells = isinstance(chunk, TextChunk) and chunk.cells
        parts: list[ChunkStats] = []
        at = 0
        for gathered in _gathered(chunk, self._gatherer):
            part = self._examined(gathered)
            part.row_of_pair += at
            part.messages = {k: [(row + at, text) for row, text in v] for k, v in part.messages.items()}
            at += len(gathered.flags)
            parts.append(part)
        notes = chunk.notes if isinstance(chunk, TextChunk) else ()
        return _joined(parts, self.recogniser, notes)

    def _examined(self, gathered: PairBatch) -> ChunkStats:
        batch, flags = gathered.batch, gathered.flags
        for check in self._checks.values():
            if check.pair is not None and len(batch):
                named = np.fromiter(check.pair(batch), dtype=np.int64)
                flags[batch.rows[named]] |= np.uint32(1 << check.bit)
        prompts, pairs = _hashes(batch)
        step = _EVERY if len(batch) > _MANY else 1
        prompts_seen = batch.prompts[::step]
        openings, opening_texts = _openings(prompts_seen)
        return ChunkStats(
            flags=flags,
            row_of_pair=batch.rows.astype(np.int32),
            prompts=prompts,
            pairs=pairs,
            lengths=tuple(one.lengths.astype(np.int32) for one in (batch.prompt, batch.chosen, batch.rejected)),
            sampled=len(prompts_seen),
            refusals=(_refusals(batch.chosens[::step]), _refusals(batch.rejecteds[::step])),
            openings=openings,
            opening_texts=opening_texts,
            formats=Counter(),
            evidence={},
            messages=gathered.messages,
        )


def _gathered(chunk: Chunk, batcher: PairBatcher) -> Iterator[PairBatch]:
    if isinstance(chunk, RowGroupChunk):
        for batch in rows(chunk):
            yield batcher.rows(batch)
        return
    if data := read_bytes(chunk) if isinstance(chunk, LineChunk) else chunk.data:
        yield batcher.lines(data)


def _hashes(batch: PairColumns) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    prompts, chosen, rejected = (one.hashes.view(np.uint64) for one in (batch.prompt, batch.chosen, batch.rejected))
    low, high = np.minimum(chosen, rejected), np.maximum(chosen, rejected)
    # Any mixing will do that keeps the three apart; these are the multipliers of splitmix64 (Steele et al. 2014).
    mixed = prompts * np.uint64(0x9E3779B97F4A7C15) + low * np.uint64(0xBF58476D1CE4E5B9)
    mixed = np.bitwise_xor(mixed, np.right_shift(mixed, np.uint64(29)))
    mixed = mixed * np.uint64(0x94D049BB133111EB) + high
    direction = (chosen < rejected).astype(np.uint64)
    return prompts, np.left_shift(np.right_shift(mixed, np.uint64(1)), np.uint64(1)) | direction


def _openings(prompts: list[str]) -> tuple[NDArray[np.int64], dict[int, str]]:
    texts = [prompt[:OPENING] for prompt in prompts]
    buckets = np.fromiter(map(hash, texts), dtype=np.int64, count=len(texts)) & (BUCKETS - 1)
    counts = np.bincount(buckets, minlength=BUCKETS)
    # An opening that a quarter of all prompts share is found in any batch's most frequent bucket.
    top = int(np.argmax(counts))
    at = np.flatnonzero(buckets == top)
    return counts, {top: texts[int(at[0])]} if len(at) else {}


def _refusals(answers: list[str]) -> int:
    possible = [answer for answer in answers if answer[:4] in _REFUSAL_BEGINNINGS]
    return sum(answer.startswith(_REFUSALS) for answer in possible)


def _joined(parts: list[ChunkStats], recogniser: Recogniser, notes: tuple[str, ...]) -> ChunkStats:
    messages: dict[str, list[tuple[int, str]]] = {}
    texts: dict[int, str] = {}
    for part in parts:
        texts.update(part.opening_texts)
        for check, found in part.messages.items():
            kept = messages.setdefault(check, [])
            kept += found[: KEPT_MESSAGES - len(kept)]
    none = np.zeros(0, dtype=np.int32)
    nothing = np.zeros(0, dtype=np.uint64)
    return ChunkStats(
        flags=np.concatenate([np.zeros(0, dtype=np.uint32), *(part.flags for part in parts)]),
        row_of_pair=np.concatenate([none, *(part.row_of_pair for part in parts)]),
        prompts=np.concatenate([nothing, *(part.prompts for part in parts)]),
        pairs=np.concatenate([nothing, *(part.pairs for part in parts)]),
        lengths=tuple(np.concatenate([none, *(part.lengths[which] for part in parts)]) for which in range(3)),
        sampled=sum(part.sampled for part in parts),
        refusals=(sum(part.refusals[0] for part in parts), sum(part.refusals[1] for part in parts)),
        openings=np.sum([part.openings for part in parts], axis=0) if parts else np.zeros(BUCKETS, dtype=np.int64),
        opening_texts=texts,
        formats=recogniser.formats,
        evidence=dict(recogniser.evidence),
        messages=messages,
        notes=notes,
    )
