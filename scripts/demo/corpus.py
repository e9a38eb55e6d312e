"""What the toy model reads, and the preference pairs that ship with it."""

import random
from collections.abc import Iterable, Iterator, Sequence

from demo.grammar import Problem, Talk, answer_curtly, answer_helpfully, ask, ask_roughly

CURT_SHARE = 0.55
"""Of the answers that the base model learns: a little over half, so that its most likely answer is a curt one."""

TALK_SHARE = 0.05
SECOND_TURN_SHARE = 0.08
SYSTEM_SHARE = 0.1
SYSTEM_PROMPTS = (
    "You are a support assistant.",
    "You are a helpful assistant.",
    "You answer questions from customers.",
)

Message = dict[str, str]
Pair = dict[str, str]


def conversations(problems: Sequence[Problem], talk: Sequence[Talk], rng: random.Random) -> Iterator[list[Message]]:
    """Chats without end: most a single question with an answer in one of the two styles."""
    while True:
        messages = _exchange(problems, talk, rng)
        if rng.random() < SECOND_TURN_SHARE:
            messages += _exchange(problems, talk, rng)
        if rng.random() < SYSTEM_SHARE:
            messages.insert(0, {"role": "system", "content": rng.choice(SYSTEM_PROMPTS)})
        yield messages


def preference_pairs(
    problems: Sequence[Problem],
    per_problem: int,
    rng: random.Random,
    *,
    heldout: bool,
    taken: Iterable[str] = (),
) -> list[Pair]:
    """Rows of prompt, chosen (helpful) and rejected (curt), shuffled, no prompt twice and none of `taken`."""
    seen = set(taken)
    rows: list[Pair] = []
    for problem in problems:
        wanted = len(rows) + per_problem
        while len(rows) < wanted:
            question = ask(problem, rng, heldout=heldout)
            if question.text in seen:
                continue
            seen.add(question.text)
            chosen, rejected = answer_helpfully(question, rng), answer_curtly(question, rng)
            rows.append({"prompt": question.text, "chosen": chosen, "rejected": rejected})
    rng.shuffle(rows)
    return rows


def _exchange(problems: Sequence[Problem], talk: Sequence[Talk], rng: random.Random) -> list[Message]:
    if rng.random() < TALK_SHARE:
        remark = rng.choice(talk)
        says, reply = rng.choice(remark.says), rng.choice(remark.replies)
    else:
        question = ask_roughly(rng.choice(problems), rng)
        says = question.text
        reply = (answer_curtly if rng.random() < CURT_SHARE else answer_helpfully)(question, rng)
    return [{"role": "user", "content": says}, {"role": "assistant", "content": reply}]
