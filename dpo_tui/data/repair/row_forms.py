"""The two forms of rows that a repair writes: preference pairs, and single answers with a label.

Which one a dataset has is what its scan found: :func:`form_of`. A repair treats both alike: it reads the items of a
row, changes their texts, flips them, and writes those that can be used.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from dpo_tui.data.load_pairs import usable_turns
from dpo_tui.data.pairs.labelled_answer import LabelledTurns, labelled_answer_of
from dpo_tui.data.pairs.pair import Message, Turns, Unreadable, pair_of, reason_unusable
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.source.json_lines import Row

Text = str | list[Message]


@dataclass(frozen=True, slots=True)
class Edit:
    """New texts that a user gave to a row; None leaves a part unchanged.

    The answer of a labelled row is the chosen one where it is desirable, else the rejected one.
    """

    prompt: Text | None = None
    chosen: Text | None = None
    rejected: Text | None = None


class RowForm(Protocol):
    """How the items of one form are read, changed and written; an item is one pair, or one labelled answer."""

    noun: str
    """What the items are, for messages."""

    def read(self, row: Row, recogniser: Recogniser) -> list[Any]:
        """The usable items of a row.

        Raises:
            Unreadable: there is none.
        """

    def from_edit(self, edit: Edit) -> list[Any]:
        """What an edit makes of a row that cannot be read; empty where it cannot say everything."""

    def edited(self, item: Any, edit: Edit) -> Any:
        """The item with the texts of an edit."""

    def flipped(self, item: Any) -> Any:
        """The item with the opposite verdict."""

    def turns(self, item: Any) -> Turns:
        """The texts of an item."""

    def with_turns(self, item: Any, turns: Turns) -> Any:
        """The item with other texts."""

    def measured(self, item: Any) -> tuple[Text, ...]:
        """The texts whose length counts, the prompt first."""

    def is_usable(self, item: Any) -> bool:
        """Whether it can be trained on."""

    def prompt(self, number: int, item: Any) -> list[Message]:
        """The conversation before the answer, by which rows are held out."""

    def document(self, number: int, item: Any, *, as_text: bool) -> dict[str, Any]:
        """The line of the repaired file; as plain text where all items are."""


class _Pairs:
    noun = "pairs"

    def read(self, row: Row, recogniser: Recogniser) -> list[Turns]:
        return usable_turns(row, recogniser)

    def from_edit(self, edit: Edit) -> list[Turns]:
        return [Turns("", "", "")]  # the edit may give it all three texts

    def edited(self, item: Turns, edit: Edit) -> Turns:
        return item._replace(
            prompt=edit.prompt if edit.prompt is not None else item.prompt,
            chosen=edit.chosen if edit.chosen is not None else item.chosen,
            rejected=edit.rejected if edit.rejected is not None else item.rejected,
        )

    def flipped(self, item: Turns) -> Turns:
        return item._replace(chosen=item.rejected, rejected=item.chosen)

    def turns(self, item: Turns) -> Turns:
        return item

    def with_turns(self, item: Turns, turns: Turns) -> Turns:
        return turns

    def measured(self, item: Turns) -> tuple[Text, ...]:
        return item[:3]

    def is_usable(self, item: Turns) -> bool:
        return reason_unusable(item) is None

    def prompt(self, number: int, item: Turns) -> list[Message]:
        return pair_of(number, item).prompt

    def document(self, number: int, item: Turns, *, as_text: bool) -> dict[str, Any]:
        if as_text:
            return {"prompt": item.prompt, "chosen": item.chosen, "rejected": item.rejected}
        pair = pair_of(number, item)
        return _with_tools({"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}, pair.tools)


class _LabelledAnswers:
    noun = "labelled answers"

    def read(self, row: Row, recogniser: Recogniser) -> list[LabelledTurns]:
        if isinstance(row, Unreadable):
            raise row.fresh()
        found = recogniser.answers(row)
        for item in found:
            labelled_answer_of(1, item)  # raises for an empty one
        return found

    def from_edit(self, edit: Edit) -> list[LabelledTurns]:
        return []  # an edit has texts, and no label

    def edited(self, item: LabelledTurns, edit: Edit) -> LabelledTurns:
        answer = edit.chosen if item.desirable else edit.rejected
        turns = item.turns
        return item._replace(
            turns=turns._replace(
                prompt=edit.prompt if edit.prompt is not None else turns.prompt,
                chosen=answer if answer is not None else turns.chosen,
            )
        )

    def flipped(self, item: LabelledTurns) -> LabelledTurns:
        return item._replace(desirable=not item.desirable)

    def turns(self, item: LabelledTurns) -> Turns:
        return item.turns

    def with_turns(self, item: LabelledTurns, turns: Turns) -> LabelledTurns:
        return item._replace(turns=turns)

    def measured(self, item: LabelledTurns) -> tuple[Text, ...]:
        return item.turns.prompt, item.turns.chosen

    def is_usable(self, item: LabelledTurns) -> bool:
        try:
            labelled_answer_of(1, item)
        except Unreadable:
            return False
        return True

    def prompt(self, number: int, item: LabelledTurns) -> list[Message]:
        return labelled_answer_of(number, item).prompt

    def document(self, number: int, item: LabelledTurns, *, as_text: bool) -> dict[str, Any]:
        if as_text:
            return {"prompt": item.turns.prompt, "completion": item.turns.chosen, "label": item.desirable}
        answer = labelled_answer_of(number, item)
        line = {"prompt": answer.prompt, "completion": answer.completion, "label": answer.desirable}
        return _with_tools(line, answer.tools)


def _with_tools(line: dict[str, Any], tools: Any) -> dict[str, Any]:
    return {**line, "tools": tools} if tools else line


PAIRS: RowForm = _Pairs()
LABELLED_ANSWERS: RowForm = _LabelledAnswers()


def form_of(columns: Mapping[str, str]) -> RowForm:
    """Return the form of a dataset in whose report these columns are: what each is used as, and its name."""
    return LABELLED_ANSWERS if "completion" in columns else PAIRS
