"""Preference pairs whose answers differ by degrees, labelled by chance as people label: P(a is chosen) = σ(quality).

The demo's pairs set a helpful answer against a curt one. Here both answers are put together from sentences of the same
grammar, better and worse ones, so that many pairs are close and the longer answer is not always the better one.
"""

import math
import random
from collections.abc import Sequence

from advice_recipes import Row
from build_demo import GRAMMAR
from demo.grammar import CLOSINGS, CURT, OPENERS, Problem, Question, ask, load_problems

FIRMNESS = 2.0
"""Factor on the difference in quality before σ: pairs a sentence apart are then labelled wrongly one time in eight."""
_RUDE = (
    "You should have read the page about this before you wrote to us.",
    "Many people ask this, and there is little that we can do about it.",
    "It is not clear to us why this would be our fault.",
)


def graded_pairs(count: int, rng: random.Random, *, heldout: bool, firmness: float | None = FIRMNESS) -> list[Row]:
    """Pairs with prompts that do not repeat.

    Args:
        count: of the pairs.
        rng: source of all choices.
        heldout: with wordings of the questions that training does not have.
        firmness: of the labels; None always labels the better answer as chosen.
    """
    problems = load_problems(GRAMMAR)
    seen: set[str] = set()
    rows: list[Row] = []
    while len(rows) < count:
        question = ask(rng.choice(problems), rng, heldout=heldout)
        (first, one), (second, other) = _answer(question, problems, rng), _answer(question, problems, rng)
        if question.text in seen or one == other:
            continue
        seen.add(question.text)
        sure = 1.0 if one > other else 0.0
        chance = sure if firmness is None else 1 / (1 + math.exp(-firmness * (one - other)))
        chosen, rejected = (first, second) if rng.random() < chance else (second, first)
        rows.append({"prompt": question.text, "chosen": chosen, "rejected": rejected})
    return rows


def _answer(question: Question, problems: Sequence[Problem], rng: random.Random) -> tuple[str, float]:
    """An answer, and its quality: one for each good sentence, less one for each bad one."""
    problem = question.problem
    sentences: list[tuple[str, float]] = []
    if rng.random() < 0.6:
        sentences.append((rng.choice(problem.feel if rng.random() < 0.5 else OPENERS), 1.0))
    if rng.random() < 0.3:
        sentences.append((rng.choice(_RUDE), -1.0))
    if rng.random() < 0.6:
        sentences.append((rng.choice(problem.steps), 1.0))
    else:
        sentences.append((rng.choice(problem.curt) if rng.random() < 0.6 else rng.choice(CURT), -0.5))
    draw = rng.random()
    if draw < 0.3:
        sentences.append((rng.choice(problem.after), 0.5))
    elif draw < 0.5:
        # A sentence about another subject: as long as a good one, and of no use.
        sentences.append((rng.choice(rng.choice(problems).after), -0.5))
    if rng.random() < 0.25:
        sentences.append((rng.choice(CLOSINGS), 0.5))
    return " ".join(text for text, _ in sentences), sum(quality for _, quality in sentences)
