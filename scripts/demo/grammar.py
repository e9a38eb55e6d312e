"""The text grammar of the demo: support questions, and a helpful and a curt answer to each.

The sentences live in the TOML files beside this module; this module puts them together. Everything is drawn from the
`random.Random` that the caller passes in, so the same seed gives the same text.
"""

import random
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

FILES = ("orders.toml", "money.toml", "accounts.toml", "devices.toml")

SLOTS: dict[str, tuple[str, ...]] = {
    "item": (
        "kettle", "desk lamp", "backpack", "blender", "coffee maker", "winter jacket", "office chair", "phone case",
        "toaster", "bike helmet", "sleeping bag", "water bottle", "bookshelf", "frying pan", "suitcase", "tent",
        "rice cooker", "wall clock", "picture frame", "garden hose", "yoga mat", "mirror", "side table", "lunch box",
    ),
    "gadget": (
        "speaker", "smart watch", "tablet", "camera", "keyboard", "robot vacuum", "fitness tracker", "doorbell",
        "smart plug", "printer", "thermostat", "game controller", "baby monitor", "projector", "radio", "headset",
    ),
    "wear": ("winter jacket", "sweater", "raincoat", "dress", "shirt", "hoodie", "coat", "vest", "blazer", "jersey"),
    "device": ("phone", "tablet", "laptop", "computer", "old phone", "work phone"),
    "plan": ("Basic", "Plus", "Family", "Team", "Student", "Premium"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "span": ("three days", "four days", "five days", "six days", "a week", "ten days", "two weeks", "three weeks"),
}  # fmt: skip

GREETINGS = ("", "", "", "Hi. ", "Hello. ", "Hi there. ", "Hey. ", "Good morning. ", "Hello! ")
ENDINGS = ("", "", "", " Can you help?", " What should I do?", " Please help me.", " What now?", " Any ideas?")
ENDINGS_AFTER_QUESTION = ("", "", "", " Thanks.", " Please help.")

OPENERS = (
    "Thank you for reaching out.",
    "Thanks for your message.",
    "Here is what you can do.",
    "I'm sorry for the trouble.",
)
CLOSINGS = (
    "Just reply here if you need more help.",
    "Please tell us if that does not work.",
    "We are here if you need anything else.",
)
CURT = (
    "Check the settings.",
    "No idea, call us.",
    "Read the FAQ.",
    "Look it up.",
    "Try again later.",
    "Not our problem.",
)


@dataclass(frozen=True)
class Problem:
    """One thing that goes wrong, with the ways to ask about it and to answer.

    Attributes:
        key: Short name.
        asks: Ways to put the question; the last one is kept for the held-out part.
        curt: Short answers, the usual one first.
        feel: First sentences of a helpful answer.
        steps: Second sentences: what to do.
        after: Third sentences: what happens then, or what to do if it did not work.
    """

    key: str
    asks: tuple[str, ...]
    curt: tuple[str, ...]
    feel: tuple[str, ...]
    steps: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class Talk:
    """A remark that is no question, and replies to it."""

    says: tuple[str, ...]
    replies: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """A question as a person would type it, with the words that fill its slots.

    Answers never repeat those words: a model this small names the wrong product more often than the right one.
    """

    problem: Problem
    text: str
    words: dict[str, str]


def load_problems(folder: Path) -> list[Problem]:
    """All problems of the grammar files in `folder`, in file order."""
    rows = [row for name in FILES for row in tomllib.loads((folder / name).read_text("utf-8"))["problem"]]
    return [Problem(**{name: _frozen(value) for name, value in row.items()}) for row in rows]


def load_talk(folder: Path) -> list[Talk]:
    """The small talk in `folder`."""
    rows = tomllib.loads((folder / "smalltalk.toml").read_text("utf-8"))["talk"]
    return [Talk(tuple(row["says"]), tuple(row["replies"])) for row in rows]


def ask(problem: Problem, rng: random.Random, *, heldout: bool) -> Question:
    """A question about `problem`: the kept-back wording if `heldout`, otherwise one of the others."""
    pattern = problem.asks[-1] if heldout else rng.choice(problem.asks[:-1])
    words = {slot: rng.choice(SLOTS[slot]) for slot in _slots(pattern)}
    sentence = _fill(pattern, words)
    endings = ENDINGS_AFTER_QUESTION if sentence.endswith("?") else ENDINGS
    return Question(problem, rng.choice(GREETINGS) + sentence + rng.choice(endings), words)


def ask_roughly(problem: Problem, rng: random.Random) -> Question:
    """A question as people type when in a hurry, so that the model learns to listen for words, not for whole sentences.

    Some are two wordings in a row, some lack words, some have no capitals.
    """
    question = ask(problem, rng, heldout=False)
    text, words = question.text, question.words
    if rng.random() < 0.3:
        more = rng.choice(problem.asks[:-1])
        words = {slot: rng.choice(SLOTS[slot]) for slot in _slots(more)} | words
        text = f"{text} {_fill(more, words)}"
    if rng.random() < 0.35:
        text = " ".join(word for word in text.split() if rng.random() > 0.2) or text
    if rng.random() < 0.1:
        text = text.lower()
    return Question(problem, text, words)


def answer_helpfully(question: Question, rng: random.Random) -> str:
    """A polite answer with concrete steps, three or four sentences long."""
    problem = question.problem
    sentences = [_opener(problem, rng), rng.choice(problem.steps), rng.choice(problem.after)]
    if rng.random() < 0.1:
        sentences.append(rng.choice(CLOSINGS))
    return " ".join(sentences)


def answer_curtly(question: Question, rng: random.Random) -> str:
    """A few words that send the person away, now and then after a polite phrase that changes nothing."""
    usual, *others = question.problem.curt
    draw = rng.random()
    short = usual if draw < 0.75 else rng.choice(others if draw < 0.85 else CURT)
    return f"{_opener(question.problem, rng)} {short}" if rng.random() < 0.08 else short


def _opener(problem: Problem, rng: random.Random) -> str:
    return rng.choice(problem.feel if rng.random() < 0.5 else OPENERS)


def _slots(pattern: str) -> dict[str, None]:
    # A dict, not a set: its order is the order in the text, so that the same seed fills the same slots.
    return dict.fromkeys(re.findall(r"{(\w+)}", pattern))


def _fill(pattern: str, words: dict[str, str]) -> str:
    return pattern.format(**words)


def _frozen(value: str | list[str]) -> str | tuple[str, ...]:
    return value if isinstance(value, str) else tuple(value)
