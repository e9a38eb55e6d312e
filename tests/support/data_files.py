"""Small datasets for the tests of dpo_tui.data."""

import json
from pathlib import Path
from typing import Any

from dpo_tui.data.pairs.pair import Pair

# Four pairs: two with a clear preference, one too similar, one without a clear winner.
GOOD = (
    {
        "prompt": "Explain machine learning to a beginner",
        "chosen": "Machine learning lets a computer learn from examples instead of fixed rules. A spam filter, for "
        "instance, looks at many emails that people have marked and finds what spam has in common. The more examples "
        "it sees, the better it becomes.",
        "rejected": "It's when computers learn stuff.",
    },
    {
        "prompt": "Write a polite decline",
        "chosen": "Thank you so much for the invitation. Unfortunately I cannot make it this time, but I hope we can "
        "meet soon.",
        "rejected": "No thanks.",
    },
)
TOO_SIMILAR = {"prompt": "What is 2+2?", "chosen": "The answer is 4.", "rejected": "2+2 equals 4."}
NO_CLEAR_WINNER = {
    "prompt": "Describe a sunset",
    "chosen": "The sunset was beautiful.",
    "rejected": "The sunset was pretty.",
}
_TOPICS = "bread rivers taxes chess violins ferries bicycles soil stars tea maps clocks bridges paint wool".split()
_VERBS = "Explain Describe Compare Summarise Plan Review Draft Question Teach Sketch".split()


def row(number: int = 0) -> dict[str, str]:
    """A good pair, different for every number."""
    topic, verb = _TOPICS[number % len(_TOPICS)], _VERBS[number // len(_TOPICS) % len(_VERBS)]
    return {
        "prompt": f"{verb} {topic} in the town of number {number}",
        "chosen": f"Here is what matters about {topic}: start with the reasons, then give an example of {number}.",
        "rejected": f"There are many opinions on this. It depends on what somebody wants from it, {number} or so.",
    }


def rows(count: int) -> list[dict[str, str]]:
    """Good pairs."""
    return [row(number) for number in range(count)]


def write_lines(path: Path, records: list[Any]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def user(text: str) -> dict[str, str]:
    """A message of the user."""
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    """A message of the assistant."""
    return {"role": "assistant", "content": text}


def pairs_of(prompts: list[str]) -> list[Pair]:
    """A pair for each prompt, in rows from 1."""
    return [
        Pair(number, [user(prompt)], [assistant("a")], [assistant(f"b{number}")])
        for number, prompt in enumerate(prompts, start=1)
    ]
