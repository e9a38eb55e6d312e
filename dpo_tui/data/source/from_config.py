"""A config's data settings as the sources that the reader takes."""

from dpo_tui.config.schema import Config
from dpo_tui.data.source.source import Source


def training_source(config: Config) -> Source:
    """Return where the rows to train on are."""
    return _source(config, config.dataset, config.dataset_split, config.max_samples)


def evaluation_source(config: Config) -> Source | None:
    """Return where separate evaluation rows are; None where a part of the dataset is held out instead."""
    return None if config.eval_dataset is None else _source(config, config.eval_dataset, None, None)


def _source(config: Config, location: str, split: str | None, max_rows: int | None) -> Source:
    return Source(
        location=location,
        subset=config.dataset_config,
        split=split,
        prompt_field=config.prompt_field,
        chosen_field=config.chosen_field,
        rejected_field=config.rejected_field,
        system_field=config.system_field,
        max_rows=max_rows,
    )
