"""Drop the pairs that a model's chat template cannot render, for instance because it takes no system message.

Training would otherwise stop at the first such pair. The check before a start and the worker use the same function, so
that the run trains on as many rows as the check promised; the scan counts the others.
"""

from collections.abc import Hashable
from pathlib import Path

from dpo_tui.config.schema import Config
from dpo_tui.data.pairs.pair import Pair, RowProblem
from dpo_tui.data.tokens.chat_template import ChatTemplate, Unrenderable, load_template, render, special_tokens
from dpo_tui.errors import DataError
from dpo_tui.hub.tokenizer_files import tokenizer_folder


def renderable_pairs(pairs: list[Pair], config: Config, *, download: bool) -> tuple[list[Pair], list[RowProblem]]:
    """Return the pairs that the chat template of a config's model renders, and the reasons for the others.

    Args:
        pairs: usable pairs.
        config: names the model, and a template file if it sets one.
        download: whether the tokenizer's files may be downloaded. Without the files all pairs are returned.

    Raises:
        DataError: no pair is left.
    """
    template = _template(config, download=download)
    if template is None:
        return pairs, []
    renderable, problems = [], []
    known: dict[Hashable, Unrenderable | None] = {}
    for pair in pairs:
        shape = _shape(pair)
        if shape is None or shape not in known:
            result = render(template, pair)
            known[shape] = result if isinstance(result, Unrenderable) else None
        error = known[shape]
        if error is None:
            renderable.append(pair)
        else:
            reason = f"the model's chat template refuses it: {error.reason}"
            problems.append(RowProblem(pair.row, "chat-template", reason))
    if pairs and not renderable:
        raise DataError(
            f"{config.dataset}: the chat template of {config.model_name} refuses every pair: row {problems[0].row}: "
            f"{problems[0].message}",
            hint="Leave out the messages that it names, or give a template that takes them: chat_template = FILE",
        )
    return renderable, problems


def _template(config: Config, *, download: bool) -> ChatTemplate | None:
    """The template that training will use; None where its files are missing or cannot be used."""
    import jinja2

    try:
        folder = tokenizer_folder(config.model_name, config.model_revision, download=download)
        if config.chat_template:
            return ChatTemplate(Path(config.chat_template).read_text(encoding="utf-8"), special_tokens(folder))
        return load_template(folder)[0]
    except (DataError, OSError, ValueError, jinja2.TemplateError):
        return None  # loading the tokenizer for training reports what is wrong with it


def _shape(pair: Pair) -> Hashable:
    """What the success of rendering depends on: the roles of a conversation, and which messages are empty.

    One pair of each shape is rendered, since rendering a million pairs takes minutes. None for pairs with tools or with
    messages of more than a role and a text: each of them is rendered.
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
