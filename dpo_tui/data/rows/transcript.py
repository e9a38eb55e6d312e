r"""Whole conversations written as one string, such as hh-rlhf's ``"\n\nHuman: … \n\nAssistant: …"``."""

import re
from functools import lru_cache

from dpo_tui.data.pairs.pair import Message, Unreadable

# Speakers at the start of a line, as hh-rlhf, Dahoas' sets, WebGPT and prompt files write them.
_SPEAKERS = (("Human", "Assistant"), ("User", "Assistant"), ("Question", "Answer"), ("Q", "A"), ("H", "A"))
_STARTS = tuple(f"{person}:" for person, _ in _SPEAKERS)
FIRST_LETTERS = frozenset({person[0] for person, _ in _SPEAKERS} | {"\n", "\r", " ", "\t"})
"""What a transcript can begin with."""


def is_transcript(text: str) -> bool:
    """Whether a text starts with a named speaker and the other speaker answers on a later line."""
    # Cheap first: this runs on every prompt of a million rows, and few begin as a speaker's name does.
    return text[:1] in FIRST_LETTERS and text[:16].lstrip().startswith(_STARTS) and _pattern(text) is not None


def split_transcripts(chosen: str, rejected: str) -> tuple[list[Message], list[Message], list[Message]]:
    """Split two transcripts that share a beginning into prompt, chosen and rejected messages.

    The prompt ends at the last turn of the assistant that both transcripts begin: words that both answers happen to
    share stay in the answers.

    Raises:
        Unreadable: they do not begin with the same conversation.
    """
    pattern = _pattern(chosen)
    if pattern is None or _pattern(rejected) is not pattern:
        raise Unreadable("missing-field", "there is no prompt, and chosen and rejected do not name the same speakers")
    shared = _common_prefix(chosen, rejected)
    boundary = None
    for match in pattern.finditer(chosen, 0, min(shared, len(chosen))):
        if _role(match.group(1)) == "assistant":
            boundary = match
    if boundary is None:
        raise Unreadable("missing-field", "there is no prompt: chosen and rejected do not begin with the same words")
    cut = boundary.end()
    prompt = _turns(chosen[: boundary.start()], pattern)
    return prompt, _answer(chosen[cut:], pattern), _answer(rejected[cut:], pattern)


def parse_prompt(text: str) -> list[Message]:
    """Turn a transcript that ends where the assistant should speak into messages."""
    pattern = _pattern(text)
    messages = _turns(text, pattern) if pattern else []
    if messages and messages[-1]["role"] == "assistant" and not messages[-1]["content"]:
        messages.pop()
    return messages


@lru_cache(maxsize=len(_SPEAKERS))
def _compiled(person: str, machine: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|\n)[ \t]*({person}|{machine}):")


def _pattern(text: str) -> re.Pattern[str] | None:
    head = text.lstrip()
    for person, machine in _SPEAKERS:
        if head.startswith(f"{person}:") and f"\n{machine}:" in text:
            return _compiled(person, machine)
    return None


def _role(speaker: str) -> str:
    return "assistant" if speaker.startswith("A") else "user"


def _turns(text: str, pattern: re.Pattern[str]) -> list[Message]:
    marks = list(pattern.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [
        {"role": _role(mark.group(1)), "content": text[mark.end() : end].strip()}
        for mark, end in zip(marks, ends, strict=True)
    ]


def _answer(text: str, pattern: re.Pattern[str]) -> list[Message]:
    first = pattern.search(text)
    head = text[: first.start()] if first else text
    rest = _turns(text[first.start() :], pattern) if first else []
    return [{"role": "assistant", "content": head.strip()}, *rest]


def _common_prefix(left: str, right: str) -> int:
    """The length of the shared beginning, by halving: string comparison runs at memory speed, a loop does not."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
