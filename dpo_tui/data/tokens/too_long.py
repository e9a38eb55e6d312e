"""Refuse data of which no pair fits: training would end in an error of torch after the model is loaded."""

from collections.abc import Sequence

from dpo_tui.config.schema import Config
from dpo_tui.data.pairs.labelled_answer import LabelledAnswer
from dpo_tui.data.pairs.pair import Pair
from dpo_tui.data.tokens.chat_template import TemplateLimitError, Unrenderable, render_or_none
from dpo_tui.data.tokens.load_template import load_template
from dpo_tui.data.tokens.pair_lengths import Length, TokenCounter, is_kept
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings
from dpo_tui.errors import DataError
from dpo_tui.hub.tokenizer_files import tokenizer_folder
from dpo_tui.strategies.registry import strategy_of

_BATCH = 200


def require_room(config: Config, pairs: Sequence[Pair] | Sequence[LabelledAnswer], part: str) -> None:
    """Check that TRL will keep at least one of some pairs or labelled answers.

    Args:
        config: names the model and ``max_seq_length``.
        pairs: as the template takes them.
        part: what they are for, such as ``training``.

    Raises:
        DataError: the prompt of each fills ``max_seq_length`` alone.
    """
    limit = config.max_seq_length
    if not pairs or is_kept(limit, limit, config.truncation_mode):
        return
    settings = TemplateSettings.of(config)
    try:
        folder = tokenizer_folder(config.model_name, config.model_revision, download=False)
        template = load_template(folder, settings)[0]
        # A token is a byte or more, so that a short prompt needs no tokenizer, whose loading takes up to a second.
        for pair in pairs[:_BATCH]:
            prompt = render_or_none(template, pair.prompt, pair.tools, add_generation_prompt=True)
            if prompt is not None and len(prompt.encode()) < limit:
                return
        counter = TokenCounter.from_folder(folder, settings)
    except TemplateLimitError:
        raise
    except DataError:
        return  # the worker says what is wrong with them
    shortest: int | None = None
    for start in range(0, len(pairs), _BATCH):
        some = [row if isinstance(row, Pair) else row.as_pair() for row in pairs[start : start + _BATCH]]
        for found in counter.lengths(some):
            if isinstance(found, Unrenderable) or is_kept(found.prompt, limit, config.truncation_mode):
                return
            shortest = _shorter(shortest, found)
    raise nothing_fits(config, len(pairs), part, shortest)


def nothing_fits(config: Config, count: int, part: str, shortest: int | None = None) -> DataError:
    """The error for pairs of which none fits.

    Args:
        config: of the run.
        count: number of the pairs.
        part: what they are for.
        shortest: tokens of the shortest prompt, where they were counted.
    """
    strategy = strategy_of(config)
    rows = strategy.data.value
    which = f"the {part} {rows.removesuffix('s')}" if count == 1 else f"each of the {count:,} {part} {rows}"
    cut = ' or truncation_mode = "keep_end", which cuts the beginning of prompts'
    room = f" (the shortest has {shortest:,})" if shortest is not None else ""
    more = f"above {shortest:,}" if shortest is not None else "higher"
    return DataError(
        f"{config.dataset}: nothing is left of {which}: the prompt alone fills max_seq_length = "
        f"{config.max_seq_length:,} tokens{room}",
        hint=f"Set max_seq_length {more}" + (f",{cut}" if strategy.reads("truncation_mode") else ""),
    )


def _shorter(shortest: int | None, found: Length) -> int:
    return found.prompt if shortest is None else min(shortest, found.prompt)
