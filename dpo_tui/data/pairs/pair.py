"""The one internal form of preference data: a prompt and two answers, each a list of chat messages.

Rows that can be used become :class:`Pair`, the others :class:`RowProblem` with the row's number. Rows count from 1: the
line of a JSON Lines file (blank lines count, so that ``sed -n 7p`` shows row 7), the element of a JSON array, or the
record of a CSV or Parquet file.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

Message = dict[str, Any]
"""A chat message: ``role``, ``content``, and any other key of the source (``tool_calls``, ``name`` …)."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One preference: after ``prompt``, ``chosen`` is better than ``rejected``.

    Args:
        row: number of the source row, from 1; a ranking gives several pairs of one row.
        prompt: the conversation before the answer; never empty.
        chosen: the preferred continuation, usually one assistant message.
        rejected: the continuation that was not preferred.
        tools: function schemas that the chat template gets, if the source has any.
    """

    row: int
    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    tools: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class RowProblem:
    """Why one row cannot be used.

    Args:
        row: the row of the source, from 1.
        check: the id of the check that found it, such as ``bad-json`` or ``missing-field``.
        message: what is wrong, in words, without the row number.
        place: the file and the row in it, where the dataset has several files; else empty.
    """

    row: int
    check: str
    message: str
    place: str = ""

    @property
    def label(self) -> str:
        """The row as people find it: ``row 12``, or ``row 12 (b.jsonl row 3)``."""
        return f"row {self.row} ({self.place})" if self.place else f"row {self.row}"


class Unreadable(Exception):
    """A row that cannot be used, with the check that found it; the reader turns it into a :class:`RowProblem`.

    It is also kept as a value, in place of the row. One that is kept is never raised itself: see :meth:`fresh`.
    """

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.check = check
        self.message = message

    def fresh(self) -> "Unreadable":
        """The same reason as a new exception without a traceback: to raise one that is kept, or to keep one raised.

        Raising sets the exception's traceback, which refers to the frames it passes through. If a local variable of one
        of them (a block's rows) holds that exception, this is a reference cycle that keeps the frame, with all texts of
        the block, until the garbage collector runs, which a scan has switched off.
        """
        return Unreadable(self.check, self.message)


class Turns(NamedTuple):
    """A pair whose texts are still strings: a scan of a million rows need not build messages. See :func:`pair_of`."""

    prompt: str | list[Message]
    chosen: str | list[Message]
    rejected: str | list[Message]
    system: str | None = None
    tools: list[dict[str, Any]] | None = None
    margin: float | None = None
    """Score of the chosen answer minus that of the rejected one, where the source has scores."""


def pair_of(row: int, turns: Turns) -> Pair:
    """Build the messages of one pair."""
    prompt = [_message("user", turns.prompt)] if isinstance(turns.prompt, str) else turns.prompt
    if turns.system:
        prompt = [_message("system", turns.system), *prompt]
    return Pair(row, prompt, _answer(turns.chosen), _answer(turns.rejected), turns.tools)


def text_of(value: str | list[Message]) -> str:
    """The text of a prompt or an answer, messages joined by blank lines, for checks and for display."""
    if isinstance(value, str):
        return value
    if len(value) == 1:
        return str(value[0].get("content") or "")
    return "\n\n".join(str(message.get("content") or "") for message in value)


def reason_unusable(turns: Turns) -> Unreadable | None:
    """Why a pair cannot be trained on, as an exception to raise; None when it can be.

    Reader, scan and repair all drop pairs by this rule: an empty answer (TRL accepts it and trains on the
    end-of-sequence token alone), an empty prompt, and two equal answers (their loss is log 2 whatever the model does,
    with a gradient of exactly zero).
    """
    prompt, chosen, rejected = turns[:3]
    if not chosen or _blank(chosen):
        return Unreadable("empty-answer", "the chosen answer is empty")
    if not rejected or _blank(rejected):
        return Unreadable("empty-answer", "the rejected answer is empty")
    if not prompt or _blank(prompt):
        return Unreadable("missing-field", "the prompt is empty")
    if chosen == rejected:
        return Unreadable("identical", "chosen and rejected are the same")
    return None


def _blank(value: str | list[Message]) -> bool:
    if isinstance(value, str):
        return value.isspace()
    return not any(message.get("tool_calls") or str(message.get("content") or "").strip() for message in value)


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _answer(value: str | list[Message]) -> list[Message]:
    return [_message("assistant", value)] if isinstance(value, str) else value
