"""Recipes of the labelled runs on which the advice is tested; `make_advice_runs.py` trains them."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Row = dict[str, str]
Change = Callable[[list[Row], list[Row], random.Random], tuple[list[Row], list[Row]]]


@dataclass(frozen=True)
class Recipe:
    """The settings and data of one labelled run.

    Attributes:
        name: of the run's folder.
        right: rules that count as the right first diagnosis.
        made: a description of what was done, for the label.
        settings: config fields beside the common ones.
        change: how training and held-out pairs are changed, with a random generator.
        wrong_reference: start the policy from an adapter that the reference does not have.
        damage: changes the files of the model's folder before the run.
        model: the demo's model, the second toy (`advice_second_model.py`), a real one (SmolLM2-135M-Instruct), or one
            of `advice_other_models.py`.
        seed: of the run in the tree; None for that of the command line.
        held_out_pairs: how many of the demo's held-out pairs are evaluated.
    """

    name: str
    right: tuple[str, ...]
    made: str
    settings: dict[str, Any] = field(default_factory=dict)
    change: Change = lambda train, held_out, _: (train, held_out)
    wrong_reference: bool = False
    damage: Callable[[Path], None] | None = None
    model: Literal["demo", "second", "real", "gpt_neox", "gpt2"] = "demo"
    seed: int | None = None
    held_out_pairs: int = 48


def flipped(rows: list[Row], share: float, rng: random.Random) -> list[Row]:
    """Swap chosen and rejected in a share of the pairs."""
    return [
        {**row, "chosen": row["rejected"], "rejected": row["chosen"]} if rng.random() < share else row for row in rows
    ]


def noisy(share: float) -> Change:
    """Flip the labels of a share of the pairs, in training and evaluation alike: annotators who disagree."""
    return lambda train, held_out, rng: (flipped(train, share, rng), flipped(held_out, share, rng))


def swapped(train: list[Row], held_out: list[Row], rng: random.Random) -> tuple[list[Row], list[Row]]:
    """Swap chosen and rejected in the training data, and leave the evaluation data right."""
    return flipped(train, 0.95, rng), flipped(held_out, 0.05, rng)


def repeated(different: int) -> Change:
    """Repeat a few pairs until the training data has its size."""

    def change(train: list[Row], held_out: list[Row], rng: random.Random) -> tuple[list[Row], list[Row]]:
        pairs = flipped(rng.sample(train, different), 0.15, rng)
        return [pairs[number % different] for number in range(len(train))], flipped(held_out, 0.15, rng)

    return change


def small_and_noisy(count: int, share: float) -> Change:
    """Take a small training set with noisy labels."""

    def change(train: list[Row], held_out: list[Row], rng: random.Random) -> tuple[list[Row], list[Row]]:
        return flipped(rng.sample(train, count), share, rng), flipped(held_out, share, rng)

    return change


def leaked(share: float) -> Change:
    """Evaluate on a part of the training data."""

    def change(train: list[Row], held_out: list[Row], rng: random.Random) -> tuple[list[Row], list[Row]]:
        rows = flipped(train, share, rng)
        return rows, rows[: len(held_out)]

    return change


def trivial(train: list[Row], held_out: list[Row], rng: random.Random) -> tuple[list[Row], list[Row]]:
    """Replace every rejected answer by the same few letters."""
    return [{**row, "rejected": "xx xx"} for row in train], [{**row, "rejected": "xx xx"} for row in held_out]


def alike(train: list[Row], held_out: list[Row], rng: random.Random) -> tuple[list[Row], list[Row]]:
    """Make each rejected answer the chosen one with a word left out, so that the answers are too similar."""
    return [_shorter(row, rng) for row in train], [_shorter(row, rng) for row in held_out]


def healthy(name: str, made: str, share: float, **settings: Any) -> Recipe:
    """A recipe without a fault."""
    return Recipe(f"healthy-{name}", ("healthy",), made, settings, noisy(share))


RECIPES: tuple[Recipe, ...] = (
    healthy("plain", "one pair in ten labelled the other way round", 0.1),
    healthy("slow", "half the rate", 0.1, learning_rate=3e-4),
    healthy("fast", "twice the rate", 0.15, learning_rate=1.2e-3),
    healthy("firm", "beta 0.3", 0.1, beta=0.3, learning_rate=3e-4),
    healthy("small-rank", "rank 4", 0.12, lora_r=4, lora_alpha=8, learning_rate=1e-3),
    healthy("accumulate", "the batch in two parts", 0.1, per_device_train_batch_size=2, gradient_accumulation_steps=2),
    healthy("cosine", "cosine schedule, more warm-up", 0.1, lr_scheduler_type="cosine", warmup_ratio=0.2),
    healthy("noisier", "one pair in five the other way round", 0.2),
    healthy("two-epochs", "two passes over half the pairs", 0.1, max_samples=320, num_train_epochs=2, max_steps=None),
    Recipe("rate-high-1", ("rate-high",), "rate 0.05", {"learning_rate": 5e-2}, noisy(0.1)),
    Recipe(
        "rate-high-2", ("rate-high",), "rate 0.02, no warm-up", {"learning_rate": 2e-2, "warmup_ratio": 0.0}, noisy(0.1)
    ),
    Recipe("rate-high-3", ("rate-high", "nan"), "rate 0.3", {"learning_rate": 0.3}, noisy(0.1)),
    Recipe(
        "rate-low-1", ("rate-low",), "rate 5e-7, right for seven billion weights", {"learning_rate": 5e-7}, noisy(0.1)
    ),
    Recipe("rate-low-2", ("rate-low",), "rate 1e-6", {"learning_rate": 1e-6}, noisy(0.1)),
    Recipe("rate-low-3", ("rate-low",), "rate 1e-5", {"learning_rate": 1e-5}, noisy(0.1)),
    Recipe("swapped-1", ("swapped",), "labels of the training data swapped", {}, swapped),
    Recipe("swapped-2", ("swapped",), "labels swapped, twice the rate", {"learning_rate": 1.2e-3}, swapped),
    Recipe("swapped-3", ("swapped",), "labels swapped, beta 0.3", {"beta": 0.3, "learning_rate": 3e-4}, swapped),
    Recipe("random-1", ("weak-signal",), "labels by tossing a coin", {}, noisy(0.5)),
    Recipe(
        "random-2", ("weak-signal",), "labels by tossing a coin, half the rate", {"learning_rate": 3e-4}, noisy(0.5)
    ),
    Recipe("duplicated-1", ("duplicates",), "24 pairs, again and again", {}, repeated(24)),
    Recipe("duplicated-2", ("duplicates",), "60 pairs, again and again", {}, repeated(60)),
    Recipe(
        "over-fitting-1",
        ("over-fitting",),
        "48 pairs, 15 epochs",
        {"num_train_epochs": 15, "max_steps": None},
        small_and_noisy(48, 0.2),
    ),
    Recipe(
        "over-fitting-2",
        ("over-fitting",),
        "64 pairs, 12 epochs",
        {"num_train_epochs": 12, "max_steps": None, "learning_rate": 1e-3},
        small_and_noisy(64, 0.25),
    ),
    Recipe("beta-low-1", ("beta",), "beta 0.001", {"beta": 0.001}, noisy(0.1)),
    Recipe("beta-low-2", ("beta",), "beta 0.003, rate 1e-3", {"beta": 0.003, "learning_rate": 1e-3}, noisy(0.1)),
    Recipe("beta-high-1", ("beta",), "beta 20", {"beta": 20.0}, noisy(0.1)),
    Recipe("beta-high-2", ("beta",), "beta 50", {"beta": 50.0}, noisy(0.1)),
    Recipe("leaked-1", ("leak",), "evaluated on training pairs", {}, leaked(0.1)),
    Recipe(
        "leaked-2",
        ("leak",),
        "evaluated on training pairs, two epochs",
        {"num_train_epochs": 2, "max_steps": None, "max_samples": 320},
        leaked(0.15),
    ),
    Recipe("trivial-1", ("trivial",), "every rejected answer is xx xx", {}, trivial),
    Recipe(
        "trivial-2", ("trivial",), "every rejected answer is xx xx, twice the rate", {"learning_rate": 1.2e-3}, trivial
    ),
    Recipe("too-short-1", ("too-short",), "6 steps", {"max_steps": 6, "eval_steps": 3}, noisy(0.1)),
    Recipe("too-short-2", ("too-short",), "10 steps", {"max_steps": 10, "eval_steps": 5}, noisy(0.1)),
    Recipe(
        "alike-1",
        ("chosen-falls",),
        "rejected is chosen with a word left out, rate 3e-3, 160 steps",
        {"learning_rate": 3e-3, "max_steps": 160},
        alike,
    ),
    Recipe(
        "wrong-reference",
        ("wrong-reference",),
        "the policy starts from an adapter that the reference lacks",
        {},
        noisy(0.1),
        True,
    ),
)


def _shorter(row: Row, rng: random.Random) -> Row:
    words = row["chosen"].split()
    del words[rng.randrange(1, len(words))]
    return {**row, "rejected": " ".join(words)}
