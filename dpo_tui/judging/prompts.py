"""The prompts of a run that nobody trained on."""

from dataclasses import dataclass

from dpo_tui.config.files import load
from dpo_tui.data.demonstrations import load_demonstrations
from dpo_tui.data.from_config import evaluation_source, training_source
from dpo_tui.data.pairs import Message
from dpo_tui.data.read import load_pairs
from dpo_tui.data.split import different_prompts, split_by_prompt
from dpo_tui.runs.folder import RunFolder
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.strategies.strategy import DataForm


@dataclass(frozen=True)
class Prompts:
    """Prompts to answer.

    Attributes:
        prompts: different ones, in the order of the data.
        held_out: whether they were kept out of the training.
    """

    prompts: list[list[Message]]
    held_out: bool


def prompts_of(folder: RunFolder, count: int) -> Prompts:
    """Return up to so many prompts of a run's data: held-out ones, or trained ones where nothing was held out.

    Raises:
        ConfigError: the run's config cannot be read.
        DataError: its data is not there any more.
    """
    config = load(folder.config).config
    separate = evaluation_source(config)
    if strategy_of(config).data is DataForm.DEMONSTRATIONS:
        rows = load_demonstrations(separate or training_source(config)).rows
        return Prompts(
            different_prompts([row.messages[:-1] for row in rows if len(row.messages) > 1], count), bool(separate)
        )
    if separate is not None:
        return Prompts(different_prompts([pair.prompt for pair in load_pairs(separate).pairs], count), held_out=True)
    train, held_out = split_by_prompt(load_pairs(training_source(config)).pairs, config.eval_split, config.seed)
    return Prompts(different_prompts([pair.prompt for pair in held_out or train], count), bool(held_out))
