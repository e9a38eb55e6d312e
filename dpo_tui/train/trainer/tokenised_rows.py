"""What trainers share that tokenise rows in batches: the cache, progress, a stop at any moment, one rank for all."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from datasets import Dataset

from dpo_tui.config.schema import Config
from dpo_tui.data.tokens.too_long import nothing_fits
from dpo_tui.train.trainer import token_cache
from dpo_tui.train.trainer.batched_tokens import BATCH_ROWS, can_tokenise, sample_rows, tokenised_batches
from dpo_tui.train.trainer.token_forms import TokenForm
from dpo_tui.train.worker.distributed import broadcast_from_first, has_peers, values_of_ranks
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequested, StopRequests

_SECONDS_A_SIGN = 10
"""Rank 0 gives a sign to those that wait for it this often: their collective ends after half an hour without any."""
_Batches = Iterator[pa.RecordBatch]


def _as_they_are(batches: _Batches) -> _Batches:
    return batches


@dataclass(frozen=True)
class RowKind:
    """What a trainer tokenises.

    Attributes:
        name: of the rows, in words.
        form: makes their ids.
        key: what changes the tokenised rows beside the data, the tokenizer and the length, as JSON.
        finish: makes what is stored of the tokenised rows; it may put them together.
        trl_may_divide: whether TRL gives the same where several processes tokenise a part each.
    """

    name: str
    form: TokenForm
    key: tuple[Any, ...] = ()
    finish: Callable[[_Batches], _Batches] = _as_they_are
    trl_may_divide: bool = False


class TokenisedRows:
    """Base of trainers, to be named before TRL's class.

    Attributes:
        config: the run's settings.
        journal: receives phases and notes.
        stop_requests: checked while rows are tokenised.
    """

    config: Config
    journal: Journal
    stop_requests: StopRequests
    _rows_read = 0

    def tokenised(
        self,
        dataset: Any,
        processing_class: Any,
        args: Any,
        dataset_name: str,
        prepare: Callable[..., Any],
        *,
        kind: RowKind,
    ) -> Any:
        """Tokenise rows as TRL does, or take them from the token cache.

        Args:
            dataset: rows as text or messages.
            processing_class: the tokenizer.
            args: has ``max_length``, ``truncation_mode`` and ``dataset_num_proc``.
            dataset_name: ``train`` or ``eval``.
            prepare: TRL's ``_prepare_dataset``, called with these four.
            kind: of the rows.

        Raises:
            DataError: no row fits into ``max_length``.
        """
        rows = self._cached_or_prepared(dataset, processing_class, args, dataset_name, prepare, kind=kind)
        if not len(rows):
            raise nothing_fits(self.config, len(dataset), "training" if dataset_name == "train" else "held-out")
        return rows

    def _cached_or_prepared(
        self,
        dataset: Any,
        processing_class: Any,
        args: Any,
        dataset_name: str,
        prepare: Callable[..., Any],
        *,
        kind: RowKind,
    ) -> Any:
        if len(dataset) < token_cache.FEWEST:
            return prepare(dataset, processing_class, args, dataset_name)
        dates = token_cache.dates_in(processing_class)
        key = token_cache.key_of(dataset, processing_class, args, kind.key)
        rows = token_cache.load(key) if key else None
        # All ranks or none: in TRL's tokenising the others wait for rank 0. One may find what another has just stored.
        if all(values_of_ranks(rows is not None)) and rows is not None:
            what = f"{len(rows):,} {kind.name} are tokenised already, by an earlier run ({dataset_name})"
            self.journal.event("note", what)
            return rows
        if all(values_of_ranks(self._can_tokenise(dataset, processing_class, args, dataset_name, prepare, kind=kind))):
            return self._tokenised_in_batches(dataset, processing_class, args, key, kind)
        if kind.trl_may_divide:
            args.dataset_num_proc = args.dataset_num_proc or token_cache.processes(len(dataset))
        rows = prepare(dataset, processing_class, args, dataset_name)
        # Not if the template writes the date, and that has changed meanwhile.
        if key and len(rows) and self.journal.rank.is_first and dates == token_cache.dates_in(processing_class):
            token_cache.store(key, rows)
        return rows

    def _can_tokenise(
        self, dataset: Any, tokenizer: Any, args: Any, dataset_name: str, prepare: Callable[..., Any], *, kind: RowKind
    ) -> bool:
        """Whether tokenising in batches gives what TRL's own tokenising gives of some of the rows.

        Called by all ranks: in TRL's tokenising they wait for each other.
        """
        # Processes that tokenise a part each would put other rows together than one.
        divided = not kind.trl_may_divide and (args.dataset_num_proc or 1) > 1
        if divided or not can_tokenise(dataset, tokenizer, kind.form):
            return False
        sample = dataset.select(sample_rows(dataset))
        wanted, args.dataset_num_proc = args.dataset_num_proc, None
        try:
            expected = prepare(sample, tokenizer, args, dataset_name)
        finally:
            args.dataset_num_proc = wanted
        found = list(kind.finish(tokenised_batches(sample, tokenizer, args, kind.form)))
        made = {*expected.column_names} - {*sample.column_names}
        same = _same(found, expected, made) if any(batch.num_rows for batch in found) else not len(expected)
        if not same:
            self.journal.event("note", "The rows are tokenised one by one: in batches they would have other tokens")
        return same

    def _tokenised_in_batches(self, dataset: Any, tokenizer: Any, args: Any, key: str | None, kind: RowKind) -> Any:
        """Tokenise rows once for all ranks, by rank 0; one that does not find what that stored does it by itself."""
        processes = args.dataset_num_proc or token_cache.processes(len(dataset)) or 1
        rows = None
        if self.journal.rank.is_first:
            rows = self._stored(dataset, tokenizer, args, key, kind=kind, processes=processes)
            broadcast_from_first("done")
        else:
            while (state := broadcast_from_first(None)) != "done":
                if state == "stopped":
                    raise StopRequested
            rows = token_cache.load(key) if key else None
        if rows is None:
            rows = _in_memory(kind.finish(tokenised_batches(dataset, tokenizer, args, kind.form)), kind)
        return rows

    def _stored(
        self, dataset: Any, tokenizer: Any, args: Any, key: str | None, *, kind: RowKind, processes: int
    ) -> Any:
        """Tokenise rows into the token cache; into memory where the disk has no room for them."""
        dates = token_cache.dates_in(tokenizer)

        def begin() -> _Batches:
            batches = tokenised_batches(dataset, tokenizer, args, kind.form, processes)
            return kind.finish(self._reported(batches, len(dataset), kind.name))

        batches = begin()
        first = list(itertools.islice(batches, 1))
        wanted = sum(batch.nbytes for batch in first) * len(dataset) // max(1, self._rows_read)
        if wanted <= (free := token_cache.free_bytes()):
            try:
                schema = first[0].schema if first else kind.form.schema
                rows = token_cache.store_batches(key, schema, itertools.chain(first, batches))
            except OSError as error:
                reason = str(error.strerror or error)
                # What was read of the batches is gone with the file.
                first, batches = [], begin()
            else:
                # A template that writes the date has written another one in the meantime.
                if key and dates != token_cache.dates_in(tokenizer):
                    token_cache.forget(key)
                return rows
        else:
            reason = f"they take about {wanted / 1e9:.1f} GB and {free / 1e9:.1f} GB can be used"
        self.journal.event("note", f"Tokenised rows are held in memory, {token_cache.folder()} has no room: {reason}")
        return _in_memory(itertools.chain(first, batches), kind)

    def _reported(self, batches: _Batches, count: int, name: str) -> _Batches:
        """Pass batches on with progress, a sign for the other ranks, and an end where a stop is requested.

        Raises:
            StopRequested: on every rank.
        """
        self._rows_read, signed = 0, time.monotonic()
        for batch in batches:
            self._rows_read = min(self._rows_read + BATCH_ROWS, count)
            yield batch
            self.journal.progress(self._rows_read, count, name)
            if self.stop_requests.stop_wanted():
                broadcast_from_first("stopped")
                raise StopRequested
            if has_peers() and time.monotonic() - signed > _SECONDS_A_SIGN:
                broadcast_from_first("going on")
                signed = time.monotonic()


def _in_memory(batches: _Batches, kind: RowKind) -> Any:
    found = list(batches)
    return Dataset(pa.Table.from_batches(found, found[0].schema if found else kind.form.schema))


def _same(found: list[pa.RecordBatch], expected: Any, made: set[str]) -> bool:
    """Whether rows have what TRL gives them.

    Args:
        found: the rows.
        expected: TRL's.
        made: the columns that TRL has made.
    """
    table = pa.Table.from_batches(found)
    names = {*table.column_names}
    return made <= names <= {*expected.column_names} and all(
        table[name].to_pylist() == [*expected[name]] for name in names
    )
