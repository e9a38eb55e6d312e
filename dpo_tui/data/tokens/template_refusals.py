"""Pairs that a model's chat template refuses, a system message for instance, are left out as unusable rows are.

The scan counts them, the check before a start promises how many rows remain, and the worker trains on these: one
function tells all three. Without it training would stop at the first such pair.
"""

from collections.abc import Hashable
from pathlib import Path

from dpo_tui.config.schema import Config
from dpo_tui.data.pairs.pair import Pair, RowProblem
from dpo_tui.data.tokens.chat_template import ChatTemplate, load_template, special_tokens
from dpo_tui.data.tokens.pair_lengths import TemplateRefusal, render
from dpo_tui.errors import DataError
from dpo_tui.hub.tokenizer_files import tokenizer_folder


def without_refused(pairs: list[Pair], config: Config, *, download: bool) -> tuple[list[Pair], list[RowProblem]]:
    """Return the pairs that the template of a config's model renders, and what it said about the others.

    Args:
        pairs: usable pairs.
        config: names the model, or a template of its own.
        download: whether the tokenizer's files may be fetched. All pairs are returned where they are not at hand.

    Raises:
        DataError: no pair is left.
    """
    template = _template(config, download=download)
    if template is None:
        return pairs, []
    kept, refused = [], []
    known: dict[Hashable, TemplateRefusal | None] = {}
    for pair in pairs:
        shape = _shape(pair)
        if shape is None or shape not in known:
            answer = render(template, pair)
            known[shape] = answer if isinstance(answer, TemplateRefusal) else None
        refusal = known[shape]
        if refusal is None:
            kept.append(pair)
        else:
            why = f"the model's chat template refuses it: {refusal.reason}"
            refused.append(RowProblem(pair.row, "chat-template", why))
    if pairs and not kept:
        raise DataError(
            f"{config.dataset}: the chat template of {config.model_name} refuses every pair: row {refused[0].row}: "
            f"{refused[0].message}",
            hint="Leave out the messages that it names, or give a template that takes them: chat_template = FILE",
        )
    return kept, refused


def _template(config: Config, *, download: bool) -> ChatTemplate | None:
    """The template that training will use; None where its files are not here, or are of no use."""
    import jinja2

    try:
        folder = tokenizer_folder(config.model_name, config.model_revision, download=download)
        if config.chat_template:
            return ChatTemplate(Path(config.chat_template).read_text(encoding="utf-8"), special_tokens(folder))
        return load_template(folder)[0]
    except (DataError, OSError, ValueError, jinja2.TemplateError):
        return None  # whoever loads the tokenizer says what is wrong with it


def _shape(pair: Pair) -> Hashable:
    """What a template can refuse a conversation for: its roles, and that a message is empty.

    A template is asked once for each shape, since rendering a million pairs takes minutes. None for pairs with tools or
    with messages of more than a role and a text: it is asked about each of them.
    """
    if pair.tools:
        return None
    shape: list[tuple[str, bool] | None] = []
    for messages in (pair.prompt, pair.chosen, pair.rejected):
        for message in messages:
            content = message.get("content")
            if len(message) != 2 or type(content) is not str:  # noqa: PLR2004 (role and content)
                return None
            shape.append((message["role"], not content or content.isspace()))
        shape.append(None)
    return tuple(shape)
