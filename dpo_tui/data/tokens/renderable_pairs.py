"""Fit rows to a model's chat template: drop those that it cannot render, and decode arguments that it encodes.

A template may take no system message, and training would stop at the first row with one. The check before a start and
the worker use the same function, so that the run trains on as many rows as the check promised; the scan counts the
others.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from dpo_tui.config.schema import Config
from dpo_tui.data.load_demonstrations import Demonstration
from dpo_tui.data.pairs.labelled_answer import LabelledAnswer
from dpo_tui.data.pairs.pair import Pair, RowProblem
from dpo_tui.data.stored.row_cells import row_shape
from dpo_tui.data.stored.views import as_stored, first_of_shapes, is_without_text, without
from dpo_tui.data.tokens.chat_template import (
    ChatTemplate,
    Unrenderable,
    pair_conversations,
    unrenderable,
)
from dpo_tui.data.tokens.load_template import load_template
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings
from dpo_tui.data.tokens.tool_arguments import needs_objects, with_arguments_for, with_pair_arguments_for
from dpo_tui.errors import DataError
from dpo_tui.hub.tokenizer_files import tokenizer_folder

if TYPE_CHECKING:
    from dpo_tui.data.stored.stored_rows import StoredRows

Row = TypeVar("Row", Pair, Demonstration, LabelledAnswer)


def renderable_pairs(
    pairs: Sequence[Pair], config: Config, *, download: bool
) -> tuple[Sequence[Pair], list[RowProblem]]:
    """Return the pairs that the chat template of a config's model renders, and the reasons for the others.

    Args:
        pairs: usable pairs; they are returned with the arguments of tool calls as the template takes them.
        config: names the model, and a template file if it sets one.
        download: whether the tokenizer's files may be downloaded. Without the files all pairs are returned.

    Raises:
        DataError: no pair is left, or the template is not valid.
    """
    template = _template(config, download=download)
    if template is None:
        return pairs, []
    pairs = _fitted(template, pairs, lambda some: with_pair_arguments_for(template, some))

    def attempt(pair: Pair) -> Unrenderable | None:
        return unrenderable(template, pair_conversations(pair))

    return _without_refused(
        pairs, lambda pair: row_shape(pair.tools, pair.prompt, pair.chosen, pair.rejected), attempt, config
    )


def renderable_demonstrations(
    rows: Sequence[Demonstration], config: Config, *, download: bool
) -> tuple[Sequence[Demonstration], list[RowProblem]]:
    """Do for demonstrations what :func:`renderable_pairs` does for pairs; plain text passes without the template."""
    only_text = not is_without_text(rows) and all(row.text is not None for row in rows)
    template = None if only_text else _template(config, download=download)
    if template is None:
        return rows, []

    def fit(some: list[Demonstration]) -> list[Demonstration]:
        messages = with_arguments_for(template, [row.messages for row in some])
        return [
            row if row.messages is one else replace(row, messages=one) for row, one in zip(some, messages, strict=True)
        ]

    rows = _fitted(template, rows, fit)

    def attempt(row: Demonstration) -> Unrenderable | None:
        return None if row.text is not None else unrenderable(template, [(row.messages, row.tools, False)])

    return _without_refused(rows, lambda row: row_shape(row.tools, row.messages), attempt, config)


def renderable_labelled(
    rows: Sequence[LabelledAnswer], config: Config, *, download: bool
) -> tuple[Sequence[LabelledAnswer], list[RowProblem]]:
    """Do for labelled answers what :func:`renderable_pairs` does for pairs."""
    template = _template(config, download=download)
    if template is None:
        return rows, []

    def fit(some: list[LabelledAnswer]) -> list[LabelledAnswer]:
        fitted = with_arguments_for(template, [part for row in some for part in (row.prompt, row.completion)])
        return [
            replace(row, prompt=prompt, completion=completion)
            for row, prompt, completion in zip(some, fitted[::2], fitted[1::2], strict=True)
        ]

    rows = _fitted(template, rows, fit)

    def attempt(row: LabelledAnswer) -> Unrenderable | None:
        return unrenderable(template, [(row.prompt, row.tools, True), (row.prompt + row.completion, row.tools, False)])

    return _without_refused(rows, lambda row: row_shape(row.tools, row.prompt, row.completion), attempt, config)


def _fitted(template: ChatTemplate, rows: Sequence[Row], fit: Callable[[list[Row]], list[Row]]) -> Sequence[Row]:
    """Rows with the arguments of calls as the template takes them; stored rows without calls stay where they are."""
    stored = as_stored(rows)
    if stored is not None and not (stored.known["has_calls"] and needs_objects(template)):
        return rows
    return fit(list(rows))


def _without_refused(
    rows: Sequence[Row],
    shape_of: Callable[[Row], Hashable],
    attempt: Callable[[Row], Unrenderable | None],
    config: Config,
) -> tuple[Sequence[Row], list[RowProblem]]:
    """Divide rows into those that render and the reasons of the others; rows of one shape are attempted once."""
    stored = as_stored(rows)
    refused = dict(_refused_stored(stored, attempt) if stored is not None else _refused(rows, shape_of, attempt))
    reason = "the model's chat template refuses it: "
    numbers = stored.row_numbers if stored is not None and refused else None
    problems = [
        RowProblem(int(numbers[at]) if numbers is not None else rows[at].row, "chat-template", reason + error.reason)
        for at, error in refused.items()
    ]
    if len(rows) and len(problems) == len(rows):
        what = "pair" if isinstance(rows[0], Pair) else "row"
        raise DataError(
            f"{config.dataset_text}: the chat template of {config.model_name} refuses every {what}: "
            f"row {problems[0].row}: {problems[0].message}",
            hint="Leave out the messages that it names, or give a template that takes them: chat_template = FILE",
        )
    return (without(rows, refused) if refused else rows), problems


def _refused(
    rows: Iterable[Row], shape_of: Callable[[Row], Hashable], attempt: Callable[[Row], Unrenderable | None]
) -> Iterator[tuple[int, Unrenderable]]:
    """The places of the rows that do not render, and why."""
    known: dict[Hashable, Unrenderable | None] = {}
    for place, row in enumerate(rows):
        shape = shape_of(row)
        if shape is None or shape not in known:
            known[shape] = attempt(row)
        if (error := known[shape]) is not None:
            yield place, error


def _refused_stored(
    rows: "StoredRows[Row]", attempt: Callable[[Row], Unrenderable | None]
) -> Iterator[tuple[int, Unrenderable]]:
    """The same of stored rows, whose shapes are known."""
    import numpy as np

    shapes = rows.shapes
    known = {number: attempt(rows[first]) for number, first in first_of_shapes(rows).items() if number >= 0}
    unlike = np.flatnonzero(shapes < 0)
    errors = map(attempt, rows.select(unlike))
    of_unlike: dict[int, Unrenderable] = {
        place: error for place, error in zip(unlike.tolist(), errors, strict=True) if error is not None
    }
    found: dict[int, Unrenderable] = of_unlike
    for number, error in known.items():
        if error is not None:
            found |= dict.fromkeys(np.flatnonzero(shapes == number).tolist(), error)
    for place in sorted(found):
        yield place, found[place]


def _template(config: Config, *, download: bool) -> ChatTemplate | None:
    """The template that training will use; None where the model's files are not on this machine.

    Raises:
        DataError: the template is not valid, or its file cannot be read.
    """
    try:
        folder = tokenizer_folder(config.model_name, config.model_revision, download=download)
    except DataError:
        return None  # loading the tokenizer for training reports what is wrong with it
    return load_template(folder, TemplateSettings.of(config))[0]
