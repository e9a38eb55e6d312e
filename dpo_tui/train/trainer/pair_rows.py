"""What every trainer of preference pairs shares: cached token ids, their order, and dropout rates as they are saved."""

from collections.abc import Callable
from typing import Any

from torch.utils.data import SequentialSampler
from transformers import Trainer

from dpo_tui.config.schema import Config
from dpo_tui.data.tokens.too_long import nothing_fits
from dpo_tui.train.model.dropout_rates import config_as_loaded
from dpo_tui.train.trainer import token_cache
from dpo_tui.train.trainer.grouped_sampler import grouped_sampler
from dpo_tui.train.worker.distributed import values_of_ranks
from dpo_tui.train.worker.journal import Journal

ID_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
"""Columns of a tokenised pair, as ``DPOTrainer._prepare_dataset`` names them."""


class PairRows(Trainer):  # type: ignore[misc]
    """Base of trainers on preference pairs, to be named before TRL's class.

    Attributes:
        config: the run's settings.
        journal: receives phases and notes.
    """

    config: Config
    journal: Journal
    _config_rates: Any

    def tokenised(
        self, dataset: Any, processing_class: Any, args: Any, dataset_name: str, prepare: Callable[..., Any]
    ) -> Any:
        """Tokenise pairs as DPOTrainer does, or take them from the token cache.

        Args:
            dataset: pairs as text or messages.
            processing_class: the tokenizer.
            args: has ``max_length``, ``truncation_mode`` and ``dataset_num_proc``.
            dataset_name: ``train`` or ``eval``.
            prepare: ``DPOTrainer._prepare_dataset``, bound to a trainer.

        Raises:
            DataError: no pair fits into ``max_length``.
        """
        rows = self._cached_or_prepared(dataset, processing_class, args, dataset_name, prepare)
        if not len(rows):
            raise nothing_fits(self.config, len(dataset), "training" if dataset_name == "train" else "held-out")
        return rows

    def _cached_or_prepared(
        self, dataset: Any, processing_class: Any, args: Any, dataset_name: str, prepare: Callable[..., Any]
    ) -> Any:
        if len(dataset) < token_cache.FEWEST:
            return prepare(dataset, processing_class, args, dataset_name)
        dates = token_cache.dates_in(processing_class)
        key = token_cache.key_of(dataset, processing_class, args)
        rows = token_cache.load(key) if key else None
        # All ranks or none: in TRL's tokenising the others wait for rank 0. One may find what another has just stored.
        if all(values_of_ranks(rows is not None)) and rows is not None:
            self.journal.event("note", f"{len(rows):,} pairs are tokenised already, by an earlier run ({dataset_name})")
            return rows
        args.dataset_num_proc = args.dataset_num_proc or token_cache.processes(len(dataset))
        rows = prepare(dataset, processing_class, args, dataset_name)
        # Not if the template writes the date, and that has changed meanwhile.
        if key and self.journal.rank.is_first and dates == token_cache.dates_in(processing_class):
            token_cache.store(key, rows)
        return rows

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Group by length as Trainer does, which reads lengths from ``input_ids``, a column that pairs do not have."""
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        return grouped_sampler(
            self.args, longer_lengths(self.train_dataset if train_dataset is None else train_dataset)
        )

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        """Evaluate in the order of the dataset, also when training groups by length; pairs have no ``input_ids``."""
        # None: accelerate splits the dataset over the processes.
        return None if self.args.world_size > 1 else SequentialSampler(eval_dataset)

    def _save(self, *args: Any, **kwargs: Any) -> None:
        """Save a model with the dropout rates that its config came with."""
        with config_as_loaded(self._config_rates):
            super()._save(*args, **kwargs)


def longer_lengths(dataset: Any) -> list[int]:
    """Return the tokens of the longer sequence of each tokenised pair, prompt included."""
    lengths: list[int] = []
    for batch in dataset.select_columns(list(ID_COLUMNS)).iter(batch_size=1000):
        pairs = zip(*(batch[column] for column in ID_COLUMNS), strict=True)
        lengths += [len(prompt) + max(len(chosen), len(rejected)) for prompt, chosen, rejected in pairs]
    return lengths
