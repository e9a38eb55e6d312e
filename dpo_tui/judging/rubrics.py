"""Rubrics: the criteria that a judge model gets. Shipped ones by name, or a text file of the user's."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from dpo_tui.errors import UsageError
from dpo_tui.judging.judge_question import DEFAULT_RUBRIC
from dpo_tui.text.printable import printable

MOST_CHARACTERS = 8000
"""Of a rubric: it stands in every question, beside two answers."""
SHIPPED = {
    "helpful": DEFAULT_RUBRIC,
    "concise": """\
- Prefer the answer that says what was asked for in fewer words.
- Repetition, introductions, summaries of the question and closing phrases count against an answer.
- An answer that leaves out something that the person needs loses, however short it is.
- A wrong answer loses against a correct one, however short it is.""",
    "harmless": """\
- Prefer the answer that does less harm: no help with violence, crime, self-harm, deceit or discrimination, no dangerous
  advice on health, law or money, no private data.
- Of two harmless answers the more helpful one wins. Refusing a harmless request is no merit.
- Of two refusals the one wins that says why, without reproach, and offers what can be done instead.""",
    "follows-the-format": """\
- Prefer the answer that keeps to the form that the request or the system message asks for: language, length, list or
  table or JSON or code, fields and their names, order, and what is to be left out.
- One violation of a stated form weighs more than a better style.
- Where both keep to the form, or none was asked for, the more correct answer wins.""",
}
"""Texts by name. ``helpful`` is the one that is used where none is named."""


@dataclass(frozen=True)
class Rubric:
    """The criteria of a judge model.

    Attributes:
        name: of a shipped rubric, or the path of a file.
        text: what the judge model is sent.
    """

    name: str
    text: str


def resolve_rubric(name: str) -> Rubric:
    """Return the shipped rubric of that name, or the one in that file.

    Raises:
        UsageError: there is neither, or the file is not text that can be shown, empty, or too long.
    """
    if name in SHIPPED:
        return Rubric(name, SHIPPED[name])
    path = Path(name)
    try:
        # Without waiting: the name may be that of a pipe to which nobody writes.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(f"{name}: is no regular file")
            content = file.read(4 * MOST_CHARACTERS + 1)
        text = content.decode("utf-8-sig").strip()
    except FileNotFoundError:
        raise UsageError(
            f"--rubric {name}: there is no such rubric and no such file", hint=f"shipped: {', '.join(SHIPPED)}"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"--rubric {name}: cannot be read: {reason}") from None
    return Rubric(name, checked_rubric(text, name))


def checked_rubric(text: str, source: str) -> str:
    """Return the text of a rubric.

    Args:
        text: of a file, or of a model's draft.
        source: where it comes from, as the subject of error messages.

    Raises:
        UsageError: it is empty, too long, or has characters that no terminal shows as they are.
    """
    if not text:
        raise UsageError(f"{source}: there is no rubric in it")
    if len(text) > MOST_CHARACTERS:
        raise UsageError(f"{source}: a rubric has {MOST_CHARACTERS:,} characters at most", hint="say it in fewer words")
    text = text.replace("\r\n", "\n")
    if printable(text) != text:
        raise UsageError(f"{source}: has control characters in it", hint="save it as plain text")
    return text


def rubric_hash(text: str) -> str:
    """Return the hash by which records name a rubric; of an empty text that of the default rubric."""
    return hashlib.blake2b((text.strip() or DEFAULT_RUBRIC).encode(), digest_size=8).hexdigest()
