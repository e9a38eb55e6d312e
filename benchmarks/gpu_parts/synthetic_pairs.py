"""Preference pairs of chosen lengths, made of words that are one token each for the demo's tokenizer."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dpo_tui.demo import assets


@dataclass(frozen=True)
class Lengths:
    """Log-normal lengths, in tokens.

    Attributes:
        prompt: median of the prompts.
        prompt_spread: standard deviation of their logarithm.
        answer: median of the answers.
        answer_spread: standard deviation of their logarithm.
    """

    prompt: float
    prompt_spread: float
    answer: float
    answer_spread: float


DISTRIBUTIONS = {
    # Anthropic's hh-harmless, test split: prompts mean 108, median about 75; answers mean 42, median about 28.
    "hh-like": Lengths(75, 0.85, 28, 0.9),
    # Answers as long as those of instruction-tuned models.
    "long answers": Lengths(130, 0.5, 600, 0.4),
}


def drawn_pairs(path: Path, name: str, count: int, longest: int, *, scale: float = 1.0, seed: int = 0) -> Path:
    """Write pairs whose lengths follow a distribution, as JSON lines.

    Args:
        path: of the file.
        name: in DISTRIBUTIONS.
        count: of pairs.
        longest: tokens of a sequence at most, prompt and answer together.
        scale: multiplies every length.
        seed: of lengths and words.
    """
    shape, draw = DISTRIBUTIONS[name], random.Random(seed)

    def sizes() -> tuple[int, int, int]:
        prompt = draw.lognormvariate(0, shape.prompt_spread) * shape.prompt
        answers = (draw.lognormvariate(0, shape.answer_spread) * shape.answer for _ in range(2))
        prompt_size = max(4, min(int(prompt * scale), longest // 2))
        chosen, rejected = (max(3, min(int(answer * scale), longest - prompt_size - 8)) for answer in answers)
        return prompt_size, chosen, rejected

    return _write(path, count, sizes, draw)


def full_pairs(path: Path, count: int, longest: int, *, prompt: int = 16) -> Path:
    """Write pairs of which one answer fills the length and the other nearly: the most memory that a batch can take."""
    answer = longest  # TRL cuts what is over max_length
    return _write(path, count, lambda: (prompt, answer, answer - prompt - 8 - longest // 16), random.Random(0))


def _write(path: Path, count: int, sizes: Callable[[], tuple[int, int, int]], draw: random.Random) -> Path:
    words = one_token_words()
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            prompt, chosen, rejected = (" ".join(draw.choices(words, k=max(1, size))) for size in sizes())
            file.write(json.dumps({"prompt": prompt, "chosen": chosen, "rejected": rejected}) + "\n")
    return path


def one_token_words() -> list[str]:
    """Return words that the demo's tokenizer, after a space, has as one token each."""
    document = json.loads((assets.model_dir() / "tokenizer.json").read_text(encoding="utf-8"))
    pieces = sorted(document["model"]["vocab"])
    return [piece[1:] for piece in pieces if piece.startswith("Ġ") and piece[1:].isalpha() and len(piece) > 3]
