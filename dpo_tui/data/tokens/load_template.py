"""Find the chat template of a model folder, or of a run's settings."""

from pathlib import Path
from typing import Any

from dpo_tui.data.tokens.chat_template import DEFAULT_CHAT_TEMPLATE, RenderError
from dpo_tui.data.tokens.limited_template import LimitedTemplate
from dpo_tui.data.tokens.template_defaults import with_defaults
from dpo_tui.data.tokens.template_process import GuardedTemplate
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings, TokenizerSettings, read_object
from dpo_tui.errors import DataError
from dpo_tui.text.whole_file import read_whole_text

_FOR_TOOLS = "tool_use"
"""Name of the template that transformers takes for conversations with tools, where a model has several."""


def load_template(folder: Path, settings: TemplateSettings | None = None) -> tuple[GuardedTemplate, bool]:
    """Load the chat template of a model folder.

    Args:
        folder: of the model.
        settings: of the run.

    Returns:
        The template, and whether it is the model's own or that of the settings; if not, it is DEFAULT_CHAT_TEMPLATE.

    Raises:
        DataError: a file cannot be read, or the template is not valid jinja.
        TemplateLimitError: it takes too much time or memory to be compiled.
    """
    settings = settings or TemplateSettings()
    special = TokenizerSettings(folder, settings).special_tokens
    source, for_tools = template_sources(folder, settings)
    place = str(settings.file or folder)
    try:
        plain = GuardedTemplate(source or DEFAULT_CHAT_TEMPLATE, special, place, for_tools=for_tools)
        found = plain.with_defaults(settings.defaults)
        found.open()
    except RenderError as error:
        raise DataError(
            f"the chat template of {place} cannot be read: {error}",
            hint='correct it, or give another one: chat_template = "FILE.jinja"',
        ) from error
    return found, source is not None


def load_limited_template(folder: Path, settings: TemplateSettings | None = None) -> tuple[LimitedTemplate, bool]:
    """Load the same template to be rendered in this process, which must be a child that only scans.

    Raises:
        DataError: as :func:`load_template`, which has been called before and found it valid.
    """
    settings = settings or TemplateSettings()
    source, for_tools = template_sources(folder, settings)
    defaults = settings.defaults
    for_tools = None if for_tools is None else with_defaults(for_tools, defaults)
    template = LimitedTemplate(
        with_defaults(source or DEFAULT_CHAT_TEMPLATE, defaults),
        TokenizerSettings(folder, settings).special_tokens,
        str(settings.file or folder),
        for_tools=for_tools,
    )
    return template, source is not None


def template_sources(folder: Path, settings: TemplateSettings) -> tuple[str | None, str | None]:
    """Return the jinja text of the settings or the model, and that for conversations with tools where it is another.

    Raises:
        DataError: a file cannot be read.
    """
    if not settings.file:
        return _sources(folder)
    try:
        return read_whole_text(settings.file), None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise DataError(f"chat_template = {settings.file}: cannot be read: {reason}") from error


def _sources(folder: Path) -> tuple[str | None, str | None]:
    """The model's template, and the one for conversations with tools where there is another."""
    file = folder / "chat_template.jinja"
    template = read_object(folder / "chat_template.json").get("chat_template")
    template = template or read_object(folder / "tokenizer_config.json").get("chat_template")
    if file.is_file():
        template = _text(file)
    named: dict[Any, Any] = {}
    if isinstance(template, list):  # several templates, each with a name
        named = {str(entry.get("name")): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    more = folder / "additional_chat_templates" / f"{_FOR_TOOLS}.jinja"
    for_tools = _text(more) if more.is_file() else named.get(_FOR_TOOLS)
    return (
        template if isinstance(template, str) else None,
        for_tools if isinstance(for_tools, str) else None,
    )


def _text(file: Path) -> str:
    try:
        return read_whole_text(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}", hint="Download the model's tokenizer again.") from error
