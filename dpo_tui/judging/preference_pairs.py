"""Two answers to one prompt: the pair that is shown for comparison, and the row of preference data made of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_tui.data.pairs.pair import Message


@dataclass(frozen=True)
class AnswerPair:
    """Two answers to compare, without anything that tells which model gave them.

    Attributes:
        id: of the prompt.
        prompt: the conversation.
        left: one answer.
        right: the other.
        number: of the prompt, from 1.
        total: number of all prompts.
    """

    id: str
    prompt: list[Message]
    left: str
    right: str
    number: int
    total: int


def preference_row(prompt: list[Message], chosen: str, rejected: str, source: dict[str, Any]) -> dict[str, Any]:
    """Return a row of preference data in TRL's conversational form, with where it comes from under ``source``."""
    return {
        "prompt": prompt,
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "source": source,
    }


def write_pairs(path: Path, pairs: Sequence[dict[str, Any]]) -> None:
    """Write rows as JSON Lines; the file appears whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs), encoding="utf-8")
    partial.replace(path)
