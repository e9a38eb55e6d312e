r"""Parse whole conversations written as one string, such as hh-rlhf's ``"\n\nHuman: … \n\nAssistant: …"``."""

import re
from functools import lru_cache

from dpo_tui.data.pairs.pair import Message, Unreadable

# At the start of a line: of hh-rlhf, Dahoas' sets, WebGPT and prompt files.
SPEAKERS = (("Human", "Assistant"), ("User", "Assistant"), ("Question", "Answer"), ("Q", "A"), ("H", "A"))
"""The names of user and assistant in transcripts."""
STARTS = tuple(f"{user}:" for user, _ in SPEAKERS)
"""What a transcript begins with."""
FIRST_LETTERS = frozenset({user[0] for user, _ in SPEAKERS} | {"\n", "\r", " ", "\t"})
"""The characters that a transcript can begin with."""


def is_transcript(text: str) -> bool:
    """Whether a text starts with a named speaker and the other speaker answers on a later line."""
    # The cheap tests first: this runs on every prompt of a million rows, and few begin as a speaker's name does.
    return text[:1] in FIRST_LETTERS and text[:16].lstrip().startswith(STARTS) and _pattern(text) is not None


def split_transcripts(chosen: str, rejected: str) -> tuple[list[Message], list[Message], list[Message]]:
    """Split two transcripts that share a beginning into prompt, chosen and rejected messages.

    The prompt ends before the last "Assistant:" in the part that both transcripts share. It does not end where the
    texts first differ: two answers may begin with the same words, which belong to the answers.

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
    """The messages of a transcript that is a prompt: a last, empty turn of the assistant is left out."""
    pattern = _pattern(text)
    messages = _turns(text, pattern) if pattern else []
    if messages and messages[-1]["role"] == "assistant" and not messages[-1]["content"]:
        messages.pop()
    return messages


@lru_cache(maxsize=len(SPEAKERS))
def _compiled(user: str, assistant: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^\s*|\n[ \t]*)({user}|{assistant}):")


def _pattern(text: str) -> re.Pattern[str] | None:
    """Matches the start of a turn of the speakers that a text names; None when it is no transcript."""
    head = text.lstrip()
    for user, assistant in SPEAKERS:
        if head.startswith(f"{user}:") and f"\n{assistant}:" in text:
            return _compiled(user, assistant)
    return None


def _role(name: str) -> str:
    # Every assistant of SPEAKERS begins with an A, and no user does.
    return "assistant" if name.startswith("A") else "user"


def _turns(text: str, pattern: re.Pattern[str]) -> list[Message]:
    starts = list(pattern.finditer(text))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return [
        {"role": _role(start.group(1)), "content": text[start.end() : end].strip()}
        for start, end in zip(starts, ends, strict=True)
    ]


def _answer(text: str, pattern: re.Pattern[str]) -> list[Message]:
    """The messages after an "Assistant:": its turn, and any further turns."""
    following = pattern.search(text)
    answer = text[: following.start()] if following else text
    further = _turns(text[following.start() :], pattern) if following else []
    return [{"role": "assistant", "content": answer.strip()}, *further]


def _common_prefix(left: str, right: str) -> int:
    """The length of the shared beginning, by bisection: comparing slices is far faster than a Python loop."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
