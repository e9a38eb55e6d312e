"""Checks of the contrast between chosen and rejected: is there a clear preference, and does it point the right way?"""

import re
from collections.abc import Iterable
from math import isnan, nan

import numpy as np
from rapidfuzz.distance import Indel

from dpo_tui.data.checks.pair_columns import NEARLY_THE_SAME, PairColumns
from dpo_tui.data.checks.registry import pair_check

# DPO on answers that are nearly the same text lowers the likelihood of both (Pal et al. 2024, "Smaug", arXiv
# 2402.13228, §3). NEARLY_THE_SAME flags 0.13 % of hh-harmless (test) and 0.33 % of LLaMA-Factory's English demo.
# Answers up to this many characters, a line of text, are judged by the result that they state.
ONE_LINE = 80
# One word in three: "The sunset was beautiful/pretty" differs in one of four; two of five words make another sentence.
CHANGED_WORDS = 1 / 3
# A chosen answer this many times shorter than the rejected one, and no more than a few words, is likely the worse.
MUCH_SHORTER = 12
FEW_WORDS = 4

_WORD = re.compile(r"[^\W_]+(?:['’.,-][^\W_]+)*")
_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
# Words that reverse or limit a statement: if one of them is what differs, the preference is clear.
_DECISIVE = frozenset(
    re.findall(
        r"\S+",
        "no not never none nobody nothing neither nor cannot can't cant don't dont doesn't isn't aren't wasn't weren't "
        "won't wouldn't shouldn't couldn't haven't hasn't without unless yes true false always only more less before "
        "after",
    )
)


@pair_check(
    "too-similar",
    "warning",
    bit=4,
    title="the two answers say the same",
    explanation="Nearly equal answers carry little signal, and DPO then tends to make both less likely.",
    remedy="Drop them, or rewrite one answer so that the better one is clearly better.",
)
def too_similar(batch: PairColumns) -> Iterable[int]:
    """Nearly the same text, or two short answers that state the same result.

    "It's 42." and "It's 43." are nearly the same text too, but one of them is right: two short answers that differ in a
    number, a name or a decisive word ("not", "always") are left alone.
    Two answers state the same result if both have at most ONE_LINE characters and the same numbers occur in them that
    do not stand in the prompt ("The answer is 4." and "2+2 equals 4."), and there is at least one such number.
    """
    similar = batch.similarity >= NEARLY_THE_SAME
    short = np.maximum(batch.chosen_lengths, batch.rejected_lengths) <= ONE_LINE
    yield from np.flatnonzero(similar & ~short).tolist()
    find_digit, chosens = _DIGIT.search, batch.chosens
    for index in np.flatnonzero(short).tolist():
        if (find_digit(chosens[index]) and _same_result(*batch.texts_at(index))) or (
            similar[index] and not _differ_in_a_fact(chosens[index], batch.rejecteds[index])
        ):
            yield index


def _same_result(prompt: str, chosen: str, rejected: str) -> bool:
    in_chosen = set(_NUMBER.findall(chosen))
    if not in_chosen:
        return False
    in_prompt = set(_NUMBER.findall(prompt))
    result = in_chosen - in_prompt
    same = result == set(_NUMBER.findall(rejected)) - in_prompt
    return bool(result) and same and _decisive_words(chosen) == _decisive_words(rejected)


def _decisive_words(text: str) -> frozenset[str]:
    return frozenset(word for word in text.lower().replace("’", "'").split() if word.strip(".,!?") in _DECISIVE)


@pair_check(
    "no-clear-winner",
    "warning",
    bit=5,
    title="the answers differ in a word or two",
    explanation="Same sentence, same length, another adjective: nobody could say why one is better, nor can the model.",
    remedy="Drop them, or ask for answers that differ in substance.",
)
def no_clear_winner(batch: PairColumns) -> Iterable[int]:
    """Similar length, at most one word in three changed, and none of the changed words carries a fact.

    A changed number, name (a capital inside a sentence) or decisive word ("not", "always") makes one of them right, so
    such pairs are left alone.
    """
    similarity = batch.similarity
    for index in np.flatnonzero((similarity > 0) & (similarity < NEARLY_THE_SAME)).tolist():
        if _differs_in_wording_only(batch.chosens[index], batch.rejecteds[index]):
            yield index


def _differs_in_wording_only(chosen: str, rejected: str) -> bool:
    left, right = _split_words(chosen), _split_words(rejected)
    removed, added = _changes(left, right)
    changed = max(len(removed), len(added))
    if not changed or changed > CHANGED_WORDS * max(len(left), len(right)) or abs(len(removed) - len(added)) > 1:
        return False
    return not any(_is_fact(word) for word in removed + added)


def _differ_in_a_fact(chosen: str, rejected: str) -> bool:
    removed, added = _changes(_split_words(chosen), _split_words(rejected))
    return any(_is_fact(word) for word in removed + added)


def _changes(left: list[str], right: list[str]) -> tuple[list[str], list[str]]:
    """The words that only the left and only the right text has, in order: what no longest common subsequence holds."""
    removed, added = [], []
    for step in Indel.opcodes(left, right):
        if step.tag == "delete":
            removed += left[step.src_start : step.src_end]
        elif step.tag == "insert":
            added += right[step.dest_start : step.dest_end]
    return removed, added


def _split_words(text: str) -> list[str]:
    found = _WORD.findall(text.replace("’", "'"))
    if found and found[0].isalpha():
        found[0] = found[0].lower()  # a capital at the beginning of a sentence marks no name
    return found


def _is_fact(word: str) -> bool:
    return any(letter.isdigit() for letter in word) or not word[0].islower() or word.lower() in _DECISIVE


@pair_check(
    "swapped-suspect",
    "warning",
    bit=6,
    title="the rejected answer looks like the better one",
    explanation="Swapped labels teach the opposite; training then shows an accuracy below one half at first.",
    remedy="Look at the pairs and flip those that are swapped; a short answer may well be right.",
)
def swapped_suspect(batch: PairColumns) -> Iterable[int]:
    """The dataset's own scores prefer the rejected answer; or chosen is a few words, and rejected a full answer."""
    margins = batch.margins
    yield from (index for index, margin in margins.items() if margin < 0)
    shorter = batch.rejected_lengths >= MUCH_SHORTER * np.maximum(batch.chosen_lengths, 10)
    for index in np.flatnonzero(shorter).tolist():
        if isnan(margins.get(index, nan)) and len(batch.chosens[index].split(None, FEW_WORDS)) <= FEW_WORDS:
            yield index


@pair_check(
    "equal-scores",
    "warning",
    bit=21,
    title="the scores of both answers are equal",
    explanation="The source chose one of them all the same; its own scores say that neither is better.",
    remedy="Drop them with `--drop equal-scores`, or keep them if something else decided.",
    in_app="w, with this check ticked, writes a copy without them; keep them if something else decided.",
)
def equal_scores(batch: PairColumns) -> Iterable[int]:
    """The score of the chosen answer is the rejected one's."""
    return [index for index, margin in batch.margins.items() if margin == 0]


@pair_check(
    "not-a-number",
    "warning",
    bit=24,
    title="a number is NaN or infinite",
    explanation="JSON has no such number, and a score of that kind ranks nothing: it is read as missing.",
    remedy="Correct the scores, or leave the rows out with `--drop not-a-number`.",
    in_app="Correct the scores; w, with this check ticked, writes a copy without the rows.",
)
def not_a_number(batch: PairColumns) -> Iterable[int]:
    """A score that is text says NaN, as in CSV; numbers of JSON and Parquet are found while rows are read."""
    return [index for index, margin in batch.margins.items() if isnan(margin)]
