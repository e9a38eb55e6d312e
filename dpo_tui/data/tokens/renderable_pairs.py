"""Fit rows to a model's chat template: drop those that it cannot render, and decode arguments that it encodes.

A template may take no system message, and training would stop at the first row with one. The check before a start and
the worker use the same function, so that the run trains on as many rows as the check promised; the scan counts the
others.
"""

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, TypeVar

from dpo_tui.config.schema import Config
from dpo_tui.data.load_demonstrations import Demonstration
from dpo_tui.data.pairs.labelled_answer import LabelledAnswer
from dpo_tui.data.pairs.pair import Message, Pair, RowProblem
from dpo_tui.data.tokens.chat_template import (
    ChatTemplate,
    Unrenderable,
    load_template,
    render,
    unrenderable,
)
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings
from dpo_tui.data.tokens.tool_arguments import with_arguments_for, with_pair_arguments_for
from dpo_tui.errors import DataError
from dpo_tui.hub.tokenizer_files import tokenizer_folder

Row = TypeVar("Row", Pair, Demonstration, LabelledAnswer)


def renderable_pairs(pairs: list[Pair], config: Config, *, download: bool) -> tuple[list[Pair], list[RowProblem]]:
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
    pairs = with_pair_arguments_for(template, pairs)

    def attempt(pair: Pair) -> Unrenderable | None:
        result = render(template, pair)
        return result if isinstance(result, Unrenderable) else None

    return _without_refused(
        pairs, lambda pair: _shape(pair.tools, pair.prompt, pair.chosen, pair.rejected), attempt, config
    )


def renderable_demonstrations(
    rows: list[Demonstration], config: Config, *, download: bool
) -> tuple[list[Demonstration], list[RowProblem]]:
    """Do for demonstrations what :func:`renderable_pairs` does for pairs; plain text passes without the template."""
    template = None if all(row.text is not None for row in rows) else _template(config, download=download)
    if template is None:
        return rows, []
    messages = with_arguments_for(template, [row.messages for row in rows])
    rows = [row if row.messages is one else replace(row, messages=one) for row, one in zip(rows, messages, strict=True)]

    def attempt(row: Demonstration) -> Unrenderable | None:
        return None if row.text is not None else unrenderable(template, row.messages, row.tools)

    return _without_refused(rows, lambda row: _shape(row.tools, row.messages), attempt, config)


def renderable_labelled(
    rows: list[LabelledAnswer], config: Config, *, download: bool
) -> tuple[list[LabelledAnswer], list[RowProblem]]:
    """Do for labelled answers what :func:`renderable_pairs` does for pairs."""
    template = _template(config, download=download)
    if template is None:
        return rows, []
    fitted = with_arguments_for(template, [part for row in rows for part in (row.prompt, row.completion)])
    rows = [
        replace(row, prompt=prompt, completion=completion)
        for row, prompt, completion in zip(rows, fitted[::2], fitted[1::2], strict=True)
    ]

    def attempt(row: LabelledAnswer) -> Unrenderable | None:
        as_prompt = unrenderable(template, row.prompt, row.tools, add_generation_prompt=True)
        return as_prompt or unrenderable(template, row.prompt + row.completion, row.tools)

    return _without_refused(rows, lambda row: _shape(row.tools, row.prompt, row.completion), attempt, config)


def _without_refused(
    rows: list[Row], shape_of: Callable[[Row], Hashable], attempt: Callable[[Row], Unrenderable | None], config: Config
) -> tuple[list[Row], list[RowProblem]]:
    """Divide rows into those that render and the reasons of the others; rows of one shape are attempted once."""
    renderable, problems = [], []
    known: dict[Hashable, Unrenderable | None] = {}
    for row in rows:
        shape = shape_of(row)
        if shape is None or shape not in known:
            known[shape] = attempt(row)
        error = known[shape]
        if error is None:
            renderable.append(row)
        else:
            reason = f"the model's chat template refuses it: {error.reason}"
            problems.append(RowProblem(row.row, "chat-template", reason))
    if rows and not renderable:
        what = "pair" if isinstance(rows[0], Pair) else "row"
        raise DataError(
            f"{config.dataset_text}: the chat template of {config.model_name} refuses every {what}: "
            f"row {problems[0].row}: {problems[0].message}",
            hint="Leave out the messages that it names, or give a template that takes them: chat_template = FILE",
        )
    return renderable, problems


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


def _shape(tools: list[dict[str, Any]] | None, *conversations: list[Message]) -> Hashable:
    """What the success of rendering depends on: the roles of conversations, and which messages are empty.

    One row of each shape is rendered, since rendering a million of them takes minutes. None for rows with tools or with
    messages of more than a role and a text: each of them is rendered.
    """
    if tools:
        return None
    shape: list[tuple[str, bool] | None] = []
    for messages in conversations:
        for message in messages:
            content = message.get("content")
            if len(message) != 2 or type(content) is not str:  # noqa: PLR2004 (role and content)
                return None
            shape.append((message["role"], not content or content.isspace()))
        shape.append(None)
    return tuple(shape)
