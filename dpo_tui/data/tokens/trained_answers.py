"""Check that demonstrations have what ``completion_only_loss`` and ``assistant_only_loss`` train; no torch."""

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from dpo_tui.config.library_fields import package_root
from dpo_tui.data.load_demonstrations import Demonstration
from dpo_tui.data.stored.views import is_without_text, places_where
from dpo_tui.data.tokens.chat_template import DEFAULT_CHAT_TEMPLATE
from dpo_tui.data.tokens.load_template import template_sources
from dpo_tui.data.tokens.template_defaults import with_defaults
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings
from dpo_tui.errors import ConfigError, DataError
from dpo_tui.hub.tokenizer_files import tokenizer_folder

if TYPE_CHECKING:
    from dpo_tui.config.schema import Config

_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")
"""As TRL looks for it (trl 1.16, chat_template_utils.has_generation_markers)."""
_TRAINING = "_training.jinja"


def require_trained_answers(config: "Config", rows: Sequence[Demonstration]) -> None:
    """Check rows of demonstrations, and the chat template, against the loss that is asked for.

    Args:
        config: of a strategy that reads demonstrations.
        rows: to train or to evaluate on.

    Raises:
        DataError: plain text has no answers, or a conversation does not end with one.
        ConfigError: the chat template does not mark answers.
    """
    asked = [name for name in ("completion_only_loss", "assistant_only_loss") if getattr(config, name)]
    if not asked or not rows:
        return
    plain = None if is_without_text(rows) else next((row for row in rows if row.text is not None), None)
    if plain is not None:
        raise DataError(
            f"{config.dataset_text}: row {plain.row} is plain text, in which nothing says what an answer is, and "
            f"{asked[0]} = true trains answers alone",
            hint=f"set {asked[0]} = false, or give conversations",
        )
    if config.completion_only_loss:
        _require_last_answers(config, rows)
    if config.assistant_only_loss:
        _require_markers(config)


def _require_last_answers(config: "Config", rows: Sequence[Demonstration]) -> None:
    without = places_where(rows, lambda row: len(row.messages) < 2 or row.messages[-1]["role"] != "assistant")  # noqa: PLR2004
    if len(without):
        first = rows[int(without[0])].row
        raise DataError(
            f"{config.dataset_text}: {len(without):,} of {len(rows):,} conversations do not end with an answer to "
            f"something, such as row {first}, and completion_only_loss = true trains the last answer",
            hint="leave these rows out, or train every answer: assistant_only_loss = true",
        )


def _require_markers(config: "Config") -> None:
    try:
        folder = tokenizer_folder(config.model_name, config.model_revision, download=False)
        source = template_sources(folder, TemplateSettings.of(config))[0] or DEFAULT_CHAT_TEMPLATE
    except DataError:
        return  # its files are not here yet: TRL checks it in the worker
    source = with_defaults(source, config.chat_template_kwargs)
    if _MARKER.search(source) or (not config.chat_template_kwargs and source in _known_to_trl()):
        return
    raise ConfigError(
        "assistant_only_loss = true: the chat template does not say which tokens are answers, and TRL has no version "
        "of it that does",
        hint="put {% generation %} and {% endgeneration %} around what the assistant says, its end token included, in "
        'a copy of the template: chat_template = "FILE.jinja"; or train the last answer: completion_only_loss = true',
    )


@cache
def _known_to_trl() -> frozenset[str]:
    """The chat templates for which the installed TRL brings one with markers; empty where it brings none."""
    root = package_root("trl")
    files = sorted((root / "chat_templates").glob("*.jinja")) if root is not None else []
    return frozenset(file.read_text(encoding="utf-8") for file in files if not file.name.endswith(_TRAINING))
