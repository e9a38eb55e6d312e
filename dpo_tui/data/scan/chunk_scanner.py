"""Scan one chunk: make columns of its pairs, run the pair checks, and collect what the dataset's totals need.

This part of a scan runs in several processes. It returns flags, hashes and counts instead of texts, so that little has
to be copied between them.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dpo_tui.data.checks import double_encoding
from dpo_tui.data.checks.check import Check
from dpo_tui.data.checks.pair_columns import PairColumns
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.scan.pair_batcher import MESSAGES_A_CHECK, PairBatch, PairBatcher
from dpo_tui.data.source.chunks import Chunk, LineChunk, RowGroupChunk, TextChunk, read_bytes, rows_with_warnings

OPENING = 20
"""Characters of a prompt that count as its opening."""
BUCKETS = 4096
"""Openings are counted by their hash modulo this number, so that the counts of chunks can simply be added."""
# Shares of a whole dataset are as good from every eighth pair as from all: with hundreds in each chunk the sampling
# error is far below the thresholds of the checks.
_SAMPLE_FROM, _SAMPLE_STEP = 512, 8
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
    """The results of one chunk.

    Args:
        flags: 32 bits for each row, one a check; blank rows have only BLANK.
        row_of_pair: the row of each usable pair, from 0.
        prompts: a hash of each pair's prompt.
        pairs: a hash of each pair; with the answers swapped, the hash differs in the lowest bit only.
        lengths: characters of prompts, chosen and rejected answers.
        sampled: how many pairs the next three counts are of: all of a small chunk, every eighth of a large one.
        refusals: refusals among these pairs' chosen and rejected answers.
        openings: how many of their prompts fall into each bucket of openings.
        opening_texts: the opening of the fullest bucket, by bucket.
        formats: how often each row format was recognised.
        evidence: the columns of each format.
        messages: for each check, a few rows that the reader could not use, with the reason.
        notes: what was unusual about the file, such as its encoding.
        reading: how columns were read and what was left out of rows, in words, with the number of rows.
        unclear: contradictions between rows that make all of them doubtful, with the number of rows.
        columns: which columns were read, in this chunk or an earlier one of the same process.
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
    reading: Counter[str] = field(default_factory=Counter)
    unclear: Counter[str] = field(default_factory=Counter)
    columns: tuple[frozenset[str], dict[str, str]] = (frozenset(), {})  # names read, and the roles of the others


class ChunkScanner:
    """Scans chunks with one recogniser and the registered checks."""

    def __init__(self, recogniser: Recogniser, checks: dict[str, Check]) -> None:
        self.recogniser = recogniser
        self._checks = checks
        self._batcher = PairBatcher(recogniser, checks)

    def scan(self, chunk: Chunk) -> ChunkStats:
        """Read a chunk and run every pair check over it."""
        self.recogniser.formats = Counter()
        self.recogniser.notes, self.recogniser.unclear = Counter(), Counter()
        self.recogniser.cells = isinstance(chunk, TextChunk) and chunk.cells
        parts: list[ChunkStats] = []
        first_row = 0
        for batch in _batches(chunk, self._batcher):
            part = self._scan_batch(batch)
            part.row_of_pair += first_row
            part.messages = {
                check: [(row + first_row, text) for row, text in rows] for check, rows in part.messages.items()
            }
            first_row += len(batch.flags)
            parts.append(part)
        notes = chunk.notes if isinstance(chunk, TextChunk) else ()
        return _concatenate(parts, self.recogniser, notes)

    def _scan_batch(self, batch: PairBatch) -> ChunkStats:
        pairs, flags = batch.pairs, batch.flags
        for check in self._checks.values():
            if check.find_pairs is not None and len(pairs):
                found = np.fromiter(check.find_pairs(pairs), dtype=np.int64)
                flags[pairs.rows[found]] |= np.uint32(1 << check.bit)
                if check.id == double_encoding.IDENTITY and len(found):
                    first = int(found[0])
                    text = double_encoding.example(pairs.texts_at(first))
                    batch.messages[check.id] = [(int(pairs.rows[first]), text)]
        prompt_hashes, pair_hashes = _hashes(pairs)
        step = _SAMPLE_STEP if len(pairs) > _SAMPLE_FROM else 1
        sampled_prompts = pairs.prompts[::step]
        openings, opening_texts = _openings(sampled_prompts)
        return ChunkStats(
            flags=flags,
            row_of_pair=pairs.rows.astype(np.int32),
            prompts=prompt_hashes,
            pairs=pair_hashes,
            lengths=tuple(column.lengths.astype(np.int32) for column in (pairs.prompt, pairs.chosen, pairs.rejected)),
            sampled=len(sampled_prompts),
            refusals=(_count_refusals(pairs.chosens[::step]), _count_refusals(pairs.rejecteds[::step])),
            openings=openings,
            opening_texts=opening_texts,
            formats=Counter(),
            evidence={},
            messages=batch.messages,
        )


def _batches(chunk: Chunk, batcher: PairBatcher) -> Iterator[PairBatch]:
    if isinstance(chunk, RowGroupChunk):
        for found in rows_with_warnings(chunk):
            yield batcher.from_rows(found.rows, found.warnings)
        return
    if data := read_bytes(chunk) if isinstance(chunk, LineChunk) else chunk.data:
        yield batcher.from_lines(data)


def _hashes(batch: PairColumns) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The hash of each prompt, and of each pair; only the lowest bit of the latter depends on which is preferred."""
    columns = (batch.prompt, batch.chosen, batch.rejected)
    prompts, chosen, rejected = (column.hashes.view(np.uint64) for column in columns)
    low, high = np.minimum(chosen, rejected), np.maximum(chosen, rejected)
    # Any mixing that keeps the three apart will do; the multipliers are those of splitmix64 (Steele et al. 2014).
    mixed = prompts * np.uint64(0x9E3779B97F4A7C15) + low * np.uint64(0xBF58476D1CE4E5B9)
    mixed = np.bitwise_xor(mixed, np.right_shift(mixed, np.uint64(29)))
    mixed = mixed * np.uint64(0x94D049BB133111EB) + high
    direction = (chosen < rejected).astype(np.uint64)
    return prompts, np.left_shift(np.right_shift(mixed, np.uint64(1)), np.uint64(1)) | direction


def _openings(prompts: list[str]) -> tuple[NDArray[np.int64], dict[int, str]]:
    texts = [prompt[:OPENING] for prompt in prompts]
    buckets = np.fromiter(map(hash, texts), dtype=np.int64, count=len(texts)) & (BUCKETS - 1)
    counts = np.bincount(buckets, minlength=BUCKETS)
    # An opening that a quarter of all prompts share is in the fullest bucket of any batch, so one text is enough.
    fullest = int(np.argmax(counts))
    members = np.flatnonzero(buckets == fullest)
    return counts, {fullest: texts[int(members[0])]} if len(members) else {}


def _count_refusals(answers: list[str]) -> int:
    # Comparing four characters first saves most answers the comparison with every refusal.
    possible = [answer for answer in answers if answer[:4] in _REFUSAL_BEGINNINGS]
    return sum(answer.startswith(_REFUSALS) for answer in possible)


def _concatenate(parts: list[ChunkStats], recogniser: Recogniser, notes: tuple[str, ...]) -> ChunkStats:
    messages: dict[str, list[tuple[int, str]]] = {}
    texts: dict[int, str] = {}
    for part in parts:
        texts.update(part.opening_texts)
        for check, found in part.messages.items():
            first = messages.setdefault(check, [])
            first += found[: MESSAGES_A_CHECK - len(first)]
    no_int32, no_uint64 = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.uint64)
    return ChunkStats(
        flags=np.concatenate([np.zeros(0, dtype=np.uint32), *(part.flags for part in parts)]),
        row_of_pair=np.concatenate([no_int32, *(part.row_of_pair for part in parts)]),
        prompts=np.concatenate([no_uint64, *(part.prompts for part in parts)]),
        pairs=np.concatenate([no_uint64, *(part.pairs for part in parts)]),
        lengths=tuple(np.concatenate([no_int32, *(part.lengths[which] for part in parts)]) for which in range(3)),
        sampled=sum(part.sampled for part in parts),
        refusals=(sum(part.refusals[0] for part in parts), sum(part.refusals[1] for part in parts)),
        openings=np.sum([part.openings for part in parts], axis=0) if parts else np.zeros(BUCKETS, dtype=np.int64),
        opening_texts=texts,
        formats=recogniser.formats,
        evidence=dict(recogniser.evidence),
        messages=messages,
        notes=notes,
        reading=recogniser.notes,
        unclear=recogniser.unclear,
        columns=(frozenset(recogniser.columns.read), dict(recogniser.columns.unread)),
    )
