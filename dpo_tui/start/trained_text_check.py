"""Check before a start the text that will be trained: special tokens, chat template, and whether anything fits."""

from collections.abc import Sequence
from typing import Any

from dpo_tui.config.schema import Config
from dpo_tui.data.load_demonstrations import Demonstration
from dpo_tui.data.load_split import Split
from dpo_tui.data.tokens.template_check import check_config
from dpo_tui.data.tokens.template_findings import NO_MESSAGE, TemplateFinding
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings, TokenizerSettings, require_special_tokens
from dpo_tui.data.tokens.too_long import require_room
from dpo_tui.data.tokens.trained_answers import require_trained_answers
from dpo_tui.errors import DataError
from dpo_tui.hub.tokenizer_files import tokenizer_folder


def check_trained_text(config: Config, split: Split[Any]) -> tuple[TemplateFinding, ...]:
    """Return what is wrong with the text that the chat template makes of a run's rows.

    Args:
        config: with a model that is on this machine, or not yet: then the worker checks.
        split: the run's rows.

    Raises:
        ConfigError: ``eos_token`` is no token, the tokenizer has nothing to pad with, or the template does not mark the
            answers that alone are to be trained.
        DataError: the prompt of every pair fills ``max_seq_length`` alone; where the template writes none of the
            messages, that is named in place of the length.
    """
    try:
        folder = tokenizer_folder(config.model_name, config.model_revision, download=False)
        tokenizer: TokenizerSettings | None = TokenizerSettings(folder, TemplateSettings.of(config))
    except DataError:
        tokenizer = None
    if tokenizer is not None:
        ends_text = any(isinstance(row, Demonstration) and row.text is not None for row in split.train[:1])
        require_special_tokens(tokenizer, config, ends_text=ends_text)
    for rows in (split.train, split.held_out):
        # Rows are all of one kind; a list of them would make objects of a whole stored dataset.
        if rows and isinstance(rows[0], Demonstration):
            require_trained_answers(config, rows)
    found = tuple(check_config(config, split.train))
    try:
        for rows, part in ((split.train, "training"), (split.held_out, "held-out")):
            if rows and not isinstance(rows[0], Demonstration):
                require_room(config, rows, part)
    except DataError as too_long:
        raise _writes_nothing(config, found) or too_long from None
    return found


def _writes_nothing(config: Config, found: Sequence[TemplateFinding]) -> DataError | None:
    """The error of a template that writes none of the messages, where there is that finding.

    More room would not help: its text has the same length whatever the messages are.
    """
    for finding in found:
        if finding.check == NO_MESSAGE:
            return DataError(f"{config.chat_template or config.model_name}: {finding.message}", hint=finding.remedy)
    return None
