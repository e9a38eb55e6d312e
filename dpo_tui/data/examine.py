"""Examine one portion: its pairs side by side, the checks over them, and what the whole dataset needs to know of it.

This is the part of a scan that runs in several processes, so it takes a portion and gives numbers back, never texts.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import eq, itemgetter
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dpo_tui.data.checks.batch import Batch
from dpo_tui.data.checks.registry import Check
from dpo_tui.data.json_lines import Row, parse_block
from dpo_tui.data.pairs import Turns, Unreadable, text_of
from dpo_tui.data.portions import Batches, Lines, Portion, Text, read_bytes, rows
from dpo_tui.data.read import usable_turns
from dpo_tui.data.recognise import Recogniser
from dpo_tui.data.shapes import Record
from dpo_tui.data.suspicions import Suspicions, suspicions
from dpo_tui.data.transcript import FIRST_LETTERS, is_transcript

OPENING = 20
"""Characters of a prompt that count as its opening."""
BUCKETS = 4096
_TOGETHER = 1 << 20
_KEPT_MESSAGES = 3
# Shares of a whole dataset are as good from every fourth pair as from all: with hundreds in each portion the error is
# far below the thresholds.
_MANY, _EVERY = 512, 4
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
class Examined:
    """What one portion gave.

    Args:
        flags: one number a row, a bit a check; blank rows have only BLANK.
        row_of_pair: the row of each usable pair, from 0.
        prompts: a hash of each pair's prompt.
        pairs: a hash of each pair that is the same for its swapped twin but for the lowest bit.
        lengths: characters of prompts, chosen and rejected answers.
        sampled: how many pairs the two shares below were taken from; all of a small file, every fourth of a large one.
        refusals: of these, answers that refuse, chosen and rejected.
        openings: how many of these prompts fall into each bucket of openings.
        opening_texts: one opening for each bucket that is new.
        formats: how often each format was met.
        evidence: the columns of each format.
        messages: a few problems in words, by check.
        notes: what was odd about the file.
    """

    flags: NDArray[np.uint32]
    row_of_pair: NDArray[np.int64]
    prompts: NDArray[np.uint64]
    pairs: NDArray[np.uint64]
    lengths: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
    sampled: int
    refusals: tuple[int, int]
    openings: NDArray[np.int64]
    opening_texts: dict[int, str]
    formats: Counter[str]
    evidence: dict[str, dict[str, str]]
    messages: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


BLANK = np.uint32(1 << 31)


class Examiner:
    """Examines portions with one recogniser and the registered checks."""

    def __init__(self, recogniser: Recogniser, checks: dict[str, Check]) -> None:
        self.recogniser = recogniser
        self._checks = checks

    def examine(self, portion: Portion) -> Examined:
        """Read a portion and run every pair check over it."""
        self.recogniser.formats = Counter()
        self.recogniser.cells = isinstance(portion, Text) and portion.cells
        parts: list[Examined] = []
        at = 0
        for batch_rows, suspected in _batches(portion):
            part = self._examine_rows(batch_rows, suspected)
            part.row_of_pair += at
            part.messages = {k: [(row + at, text) for row, text in v] for k, v in part.messages.items()}
            at += len(batch_rows)
            parts.append(part)
        notes = portion.notes if isinstance(portion, Text) else ()
        return _joined(parts, self.recogniser, notes)

    def _examine_rows(self, found: list[Row], suspected: Suspicions | None) -> Examined:
        flags = np.zeros(len(found), dtype=np.uint32)
        messages: dict[str, list[tuple[int, str]]] = {}
        batch = self._batch(found, flags, messages)
        batch.suspicions = suspected
        for check in self._checks.values():
            if check.pair is not None and len(batch):
                named = np.fromiter(check.pair(batch), dtype=np.int64)
                flags[batch.rows[named]] |= np.uint32(1 << check.bit)
        prompts, pairs = _hashes(batch)
        step = _EVERY if len(batch) > _MANY else 1
        prompts_seen = batch.prompts[::step]
        openings, opening_texts = _openings(prompts_seen)
        return Examined(
            flags=flags,
            row_of_pair=batch.rows.copy(),
            prompts=prompts,
            pairs=pairs,
            lengths=(batch.prompt_lengths, batch.chosen_lengths, batch.rejected_lengths),
            sampled=len(prompts_seen),
            refusals=(_refusals(batch.chosens[::step]), _refusals(batch.rejecteds[::step])),
            openings=openings,
            opening_texts=opening_texts,
            formats=Counter(),
            evidence={},
            messages=messages,
        )

    def _batch(self, found: list[Row], flags: NDArray[np.uint32], messages: dict[str, list[tuple[int, str]]]) -> Batch:
        plain, texts = self._plain_rows(found)
        rows_of = plain.tolist() if len(plain) < len(found) else None
        if rows_of is None:
            return Batch(plain, *texts)
        turns: dict[int, Turns] = {}
        taken = set(rows_of)
        for at, row in enumerate(found):
            if at in taken:
                continue
            if row is None:
                flags[at] = BLANK
                continue
            try:
                kept = usable_turns(row, self.recogniser)
            except Unreadable as problem:
                flags[at] |= np.uint32(1 << self._checks[problem.check].bit)
                if len(messages.setdefault(problem.check, [])) < _KEPT_MESSAGES:
                    messages[problem.check].append((at, problem.message))
                continue
            for one in kept:
                if type(one.chosen) is not str or type(one.prompt) is not str or one.margin is not None:
                    turns[len(rows_of)] = one
                rows_of.append(at)
                prompt = text_of(one.prompt)
                texts[0].append(f"{one.system}\n\n{prompt}" if one.system else prompt)
                texts[1].append(text_of(one.chosen))
                texts[2].append(text_of(one.rejected))
        return Batch(np.array(rows_of, dtype=np.int64), *texts, turns)

    def _plain_rows(self, found: list[Row]) -> tuple[NDArray[np.int64], tuple[list[str], list[str], list[str]]]:
        """Take whole columns of those rows that are three texts and need nothing done to them.

        Most files are nothing else, and a million rows must not each pass through the recogniser. What it would treat
        in any other way (other columns, values that are no text, blanks, equal answers, transcripts) is left to it.
        """
        none: tuple[NDArray[np.int64], tuple[list[str], list[str], list[str]]] = (
            np.zeros(0, dtype=np.int64),
            ([], [], []),
        )
        first = next((row for row in found if type(row) is dict), None)
        columns = self.recogniser.plain_columns(first) if type(first) is dict else None
        if columns is None or type(first) is not dict:
            return none
        width = len(first)
        places = list(range(len(found)))
        if set(map(type, found)) != {dict} or set(map(len, cast("list[Record]", found))) != {width}:
            places = [at for at, row in enumerate(found) if type(row) is dict and len(row) == width]
        records = cast("list[Record]", found if len(places) == len(found) else [found[at] for at in places])
        try:
            prompts, chosens, rejecteds = (list(map(itemgetter(name), records)) for name in columns)
        except KeyError:
            return none
        if {*map(type, prompts), *map(type, chosens), *map(type, rejecteds)} != {str}:
            return none
        odd = {at for at, text in enumerate(prompts) if text[:1] in FIRST_LETTERS and is_transcript(text)}
        for texts in (prompts, chosens, rejecteds):
            if not all(texts) or any(map(str.isspace, texts)):
                odd.update(at for at, text in enumerate(texts) if not text or text.isspace())
        if any(map(eq, chosens, rejecteds)):
            odd.update(at for at, text in enumerate(chosens) if text == rejecteds[at])
        if odd:
            kept = [at for at in range(len(records)) if at not in odd]
            prompts, chosens, rejecteds = ([texts[at] for at in kept] for texts in (prompts, chosens, rejecteds))
            places = [places[at] for at in kept]
        self.recogniser.count_plain(first, len(places))
        return np.array(places, dtype=np.int64), (prompts, chosens, rejecteds)


def _batches(portion: Portion) -> Iterator[tuple[list[Row], Suspicions | None]]:
    if isinstance(portion, Batches):
        for batch in rows(portion):
            yield batch, None
        return
    data = read_bytes(portion) if isinstance(portion, Lines) else portion.data
    # A portion is worth a journey between processes; what is looked at together should fit the processor's cache.
    start, total = 0, len(data)
    while start < total:
        end = data.find(b"\n", min(start + _TOGETHER, total) - 1) + 1 or total
        block = data[start:end]
        yield parse_block(block), suspicions(block)
        start = end


def _hashes(batch: Batch) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    size = len(batch)
    prompts = np.fromiter(map(hash, batch.prompts), dtype=np.int64, count=size).view(np.uint64)
    chosen = np.fromiter(map(hash, batch.chosens), dtype=np.int64, count=size).view(np.uint64)
    rejected = np.fromiter(map(hash, batch.rejecteds), dtype=np.int64, count=size).view(np.uint64)
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


def _joined(parts: list[Examined], recogniser: Recogniser, notes: tuple[str, ...]) -> Examined:
    messages: dict[str, list[tuple[int, str]]] = {}
    texts: dict[int, str] = {}
    for part in parts:
        texts.update(part.opening_texts)
        for check, found in part.messages.items():
            kept = messages.setdefault(check, [])
            kept += found[: _KEPT_MESSAGES - len(kept)]
    none = np.zeros(0, dtype=np.int64)
    nothing = np.zeros(0, dtype=np.uint64)
    lengths = [np.concatenate([none, *(part.lengths[which] for part in parts)]) for which in range(3)]
    return Examined(
        flags=np.concatenate([np.zeros(0, dtype=np.uint32), *(part.flags for part in parts)]),
        row_of_pair=np.concatenate([none, *(part.row_of_pair for part in parts)]),
        prompts=np.concatenate([nothing, *(part.prompts for part in parts)]),
        pairs=np.concatenate([nothing, *(part.pairs for part in parts)]),
        lengths=(lengths[0], lengths[1], lengths[2]),
        sampled=sum(part.sampled for part in parts),
        refusals=(sum(part.refusals[0] for part in parts), sum(part.refusals[1] for part in parts)),
        openings=np.sum([part.openings for part in parts], axis=0) if parts else np.zeros(BUCKETS, dtype=np.int64),
        opening_texts=texts,
        formats=recogniser.formats,
        evidence=dict(recogniser.evidence),
        messages=messages,
        notes=notes,
    )
