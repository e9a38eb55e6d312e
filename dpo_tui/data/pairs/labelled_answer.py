"""The internal form of unpaired preference data: a prompt, one answer to it, and whether that is desirable."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from dpo_tui.data.pairs.pair import Message, Pair, Turns, Unreadable, pair_of, reason_unusable


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """One answer with a verdict on it.

    Args:
        row: number of the source row, from 1; a pair gives two answers of one row.
        prompt: the conversation before the answer; never empty.
        completion: the answer, usually one assistant message.
        desirable: whether the answer is one to learn, or one to avoid.
        tools: function schemas that the chat template gets, if the source has any.
    """

    row: int
    prompt: list[Message]
    completion: list[Message]
    desirable: bool
    tools: list[dict[str, Any]] | None = None

    def as_pair(self) -> Pair:
        """The answer beside itself, for what counts tokens or looks at texts of pairs."""
        return Pair(self.row, self.prompt, self.completion, self.completion, self.tools)


class LabelledTurns(NamedTuple):
    """The turns of one answer, which stand in ``turns.chosen``, with the verdict on it."""

    turns: Turns
    desirable: bool


def labelled_answer_of(row: int, labelled: LabelledTurns) -> LabelledAnswer:
    """Build the messages of one answer.

    Raises:
        Unreadable: prompt or answer are empty, or the answer has no message of the assistant.
    """
    # The rule for empty texts is that of pairs; a second answer of its own leaves only the first to be judged.
    reason = reason_unusable(labelled.turns._replace(rejected="another answer"))
    if reason is not None:
        raise Unreadable(reason.check, reason.message.replace("the chosen answer", "the answer"))
    pair = pair_of(row, labelled.turns)
    if not any(message["role"] == "assistant" for message in pair.chosen):
        raise Unreadable("empty-answer", "the answer has no message of the assistant")
    return LabelledAnswer(row, pair.prompt, pair.chosen, labelled.desirable, pair.tools)


def labelled_pair(pairs: list[Turns]) -> tuple[list[LabelledTurns], int]:
    """Return each answer of a row's pairs as a labelled answer, and how many answers are left out.

    A ranking of several answers has some that are better than one and worse than another: as single answers they are
    neither desirable nor undesirable.
    """
    found: dict[str, list[LabelledTurns]] = {}
    for turns in pairs:
        for answer, desirable in ((turns.chosen, True), (turns.rejected, False)):
            found.setdefault(repr(answer), []).append(LabelledTurns(turns._replace(chosen=answer), desirable))
    kept = [labelled[0] for labelled in found.values() if len({one.desirable for one in labelled}) == 1]
    return kept, len(found) - len(kept)
