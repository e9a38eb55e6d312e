"""What every trainer of preference pairs shares: cached token ids, their order, and dropout rates as they are saved."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import Trainer

from dpo_tui.config.schema import Config
from dpo_tui.data.tokens.too_long import nothing_fits
from dpo_tui.train.model.dropout_rates import config_as_loaded
from dpo_tui.train.trainer import token_cache
from dpo_tui.train.trainer.batched_tokens import (
    BATCH_ROWS,
    ID_COLUMNS,
    SCHEMA,
    can_tokenise,
    sample_rows,
    tokenised_batches,
)
from dpo_tui.train.trainer.grouped_sampler import grouped_sampler
from dpo_tui.train.worker.distributed import broadcast_from_first, has_peers, values_of_ranks
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequested, StopRequests

_SECONDS_A_SIGN = 10
"""Rank 0 gives a sign to those that wait for it this often: their collective ends after half an hour without any."""


class PairRows(Trainer):  # type: ignore[misc]
    """Base of trainers on preference pairs, to be named before TRL's class.

    Attributes:
        config: the run's settings.
        journal: receives phases and notes.
        stop_requests: checked while rows are tokenised.
    """

    config: Config
    journal: Journal
    stop_requests: StopRequests
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
        if all(values_of_ranks(self._can_tokenise(dataset, processing_class, args, dataset_name, prepare))):
            return self._tokenised_in_batches(dataset, processing_class, args, key)
        args.dataset_num_proc = args.dataset_num_proc or token_cache.processes(len(dataset))
        rows = prepare(dataset, processing_class, args, dataset_name)
        # Not if the template writes the date, and that has changed meanwhile.
        if key and self.journal.rank.is_first and dates == token_cache.dates_in(processing_class):
            token_cache.store(key, rows)
        return rows

    def _can_tokenise(
        self, dataset: Any, tokenizer: Any, args: Any, dataset_name: str, prepare: Callable[..., Any]
    ) -> bool:
        """Whether tokenising in batches gives what TRL's own tokenising gives of some of the rows.

        Called by all ranks: in TRL's tokenising they wait for each other.
        """
        if not can_tokenise(dataset, tokenizer):
            return False
        sample = dataset.select(sample_rows(dataset))
        wanted, args.dataset_num_proc = args.dataset_num_proc, None
        try:
            expected = prepare(sample, tokenizer, args, dataset_name)
        finally:
            args.dataset_num_proc = wanted
        found = pa.Table.from_batches(tokenised_batches(sample, tokenizer, args), SCHEMA)
        same = all(found[name].to_pylist() == list(expected[name]) for name in ID_COLUMNS)
        if not same:
            self.journal.event("note", "The rows are tokenised one by one: in batches they would have other tokens")
        return same

    def _tokenised_in_batches(self, dataset: Any, tokenizer: Any, args: Any, key: str | None) -> Any:
        """Tokenise pairs once for all ranks, by rank 0; one that does not find what that stored does it by itself."""
        processes = args.dataset_num_proc or token_cache.processes(len(dataset)) or 1
        rows = None
        if self.journal.rank.is_first:
            rows = self._stored(dataset, tokenizer, args, key, processes)
            broadcast_from_first("done")
        else:
            while (state := broadcast_from_first(None)) != "done":
                if state == "stopped":
                    raise StopRequested
            rows = token_cache.load(key) if key else None
        if rows is None:
            batches = list(tokenised_batches(dataset, tokenizer, args))
            rows = Dataset(pa.Table.from_batches(batches, SCHEMA))
        return rows

    def _stored(self, dataset: Any, tokenizer: Any, args: Any, key: str | None, processes: int) -> Any:
        """Tokenise pairs into the token cache; into memory where the disk has no room for them."""
        dates = token_cache.dates_in(tokenizer)
        batches = self._reported(tokenised_batches(dataset, tokenizer, args, processes), len(dataset))
        first = list(itertools.islice(batches, 1))
        wanted = sum(batch.nbytes for batch in first) * len(dataset) // max(1, sum(batch.num_rows for batch in first))
        if wanted <= (free := token_cache.free_bytes()):
            try:
                rows = token_cache.store_batches(key, SCHEMA, itertools.chain(first, batches))
            except OSError as error:
                reason = str(error.strerror or error)
                # What was read of the batches is gone with the file.
                first, batches = (
                    [],
                    self._reported(tokenised_batches(dataset, tokenizer, args, processes), len(dataset)),
                )
            else:
                # A template that writes the date has written another one in the meantime.
                if key and dates != token_cache.dates_in(tokenizer):
                    token_cache.forget(key)
                return rows
        else:
            reason = f"they take about {wanted / 1e9:.1f} GB and {free / 1e9:.1f} GB can be used"
        self.journal.event("note", f"Tokenised rows are held in memory, {token_cache.folder()} has no room: {reason}")
        return Dataset(pa.Table.from_batches([*first, *batches], SCHEMA))

    def _reported(self, batches: Iterator[pa.RecordBatch], count: int) -> Iterator[pa.RecordBatch]:
        """Pass batches on with progress, a sign for the other ranks, and an end where a stop is requested.

        Raises:
            StopRequested: on every rank.
        """
        done, signed = 0, time.monotonic()
        for batch in batches:
            yield batch
            done = min(done + BATCH_ROWS, count)
            self.journal.progress(done, count, "pairs")
            if self.stop_requests.stop_wanted():
                broadcast_from_first("stopped")
                raise StopRequested
            if has_peers() and time.monotonic() - signed > _SECONDS_A_SIGN:
                broadcast_from_first("going on")
                signed = time.monotonic()

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
