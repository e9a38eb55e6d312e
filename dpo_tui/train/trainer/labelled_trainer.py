"""TRL's KTOTrainer with phases in the journal, the sparse LM head, and names that say which KL is meant."""

from typing import Any

import trl
from packaging.version import Version
from trl import KTOTrainer

from dpo_tui.config.schema import Config
from dpo_tui.data.tokens.too_long import nothing_fits
from dpo_tui.strategies.metric_expectations import KL_TERM
from dpo_tui.train.model.dropout_rates import config_as_loaded, disable_dropout
from dpo_tui.train.model.reference_loading import release_reference
from dpo_tui.train.model.sharding import is_sharded
from dpo_tui.train.shortcuts.head_shortcut import HeadShortcut
from dpo_tui.train.trainer import token_cache
from dpo_tui.train.trainer.sharded_state import ShardedState
from dpo_tui.train.trainer.shared_evaluation import SharedEvaluation
from dpo_tui.train.trainer.trainers import TrainerInputs
from dpo_tui.train.worker.distributed import values_of_ranks
from dpo_tui.train.worker.journal import Journal

if Version(trl.__version__) < Version("1.16"):
    raise ImportError("KTOTrainer became stable in TRL 1.16; earlier ones have other methods and another KL term")
__all__ = ["KTOTrainer", "LabelledTrainer", "build_labelled_trainer"]


class LabelledTrainer(SharedEvaluation, ShardedState, KTOTrainer):  # type: ignore[misc]
    """TRL's KTOTrainer; the loss is TRL's.

    In several processes the KL term of a step's part is, as in TRL, the mean over the micro-batches that all of them
    compute at once: it is the loss of one process whose micro-batch is theirs together, and not of one whose
    micro-batch is that of each.

    Args:
        config: the run's settings.
        journal: receives phases and notes.
        **options: of KTOTrainer.

    Attributes:
        shortcuts: the sparse LM head, for the receipt.
    """

    def __init__(self, config: Config, journal: Journal, **options: Any) -> None:
        self.config = config
        self.journal = journal
        self.shortcuts = HeadShortcut(journal)
        # TRL's disable_dropout reaches torch's dropout modules only.
        self._config_rates = disable_dropout(options["model"]) if options["args"].disable_dropout else []
        super().__init__(**options)
        if self.ref_model is not None and self.args.disable_dropout:
            disable_dropout(self.ref_model)
        if self.precompute_ref_logps and self.ref_model is not None:
            release_reference(self)
        self.shortcuts.install(self)
        if self.calculate_KL and (ranks := self.accelerator.num_processes) > 1:
            together = ranks * self.args.per_device_train_batch_size
            journal.event(
                "note",
                f"The KL term is the mean over the {together:,} answers that {ranks} processes compute at once, as in "
                "TRL: with another number of processes the losses are others",
            )

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """Tokenise a dataset as TRL does, or take its rows from the token cache."""
        self.journal.phase("load-pairs")
        rows = self._cached_or_prepared(dataset, processing_class, args, dataset_name)
        part = "training" if dataset_name == "train" else "held-out"
        if not len(rows):
            raise nothing_fits(self.config, len(dataset), part)
        if self.calculate_KL and len(rows) % args.per_device_train_batch_size == 1:
            self.journal.event(
                "note",
                f"The last micro-batch of the {len(rows):,} {part} answers has one answer: its KL term is of that "
                "answer itself, as in TRL",
            )
        return rows

    def _cached_or_prepared(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        if len(dataset) < token_cache.FEWEST:
            return super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        dates = token_cache.dates_in(processing_class)
        # TRL gives each answer the completion of its neighbour in the micro-batch, for the KL term.
        rotated_in = args.per_device_train_batch_size if self.calculate_KL else None
        key = token_cache.key_of(dataset, processing_class, args, ["labelled", rotated_in])
        rows = token_cache.load(key) if key else None
        # All ranks or none: in TRL's tokenising the others wait for rank 0. One may find what another has just stored.
        if all(values_of_ranks(rows is not None)) and rows is not None:
            what = f"{len(rows):,} answers are tokenised already, by an earlier run ({dataset_name})"
            self.journal.event("note", what)
            return rows
        rows = super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        # Not if the template writes the date, and that has changed meanwhile.
        if key and len(rows) and self.journal.rank.is_first and dates == token_cache.dates_in(processing_class):
            token_cache.store(key, rows)
        return rows

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """Add the reference's log-probabilities to a dataset; several processes share its batches."""
        self.journal.phase("reference")
        if self.accelerator.num_processes == 1:
            return super()._precompute_ref_logps(dataset, name, batch_size)
        # TRL's own hands the scores over in a file, which for rows in memory lies in a folder of rank 0 alone.
        # A reference of FSDP2 is divided by now; the policy is whole until the training, and the same model.
        model = self.model if self.ref_model is None or is_sharded(self.ref_model) else self.ref_model
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        batches = [range(first, min(first + batch_size, len(dataset))) for first in range(0, len(dataset), batch_size)]
        mine: list[tuple[int, list[list[float]]]] = []
        for index in range(rank, len(batches), ranks):
            rows = self.data_collator([dataset[row] for row in batches[index]])
            scores = self.compute_ref_log_probs(model, {key: one.to(model.device) for key, one in rows.items()})
            mine.append((index, [one.float().tolist() for one in scores if one is not None]))
            self.journal.progress(min(batches[index].stop * ranks, len(dataset)), len(dataset), "answers")
        everything = sorted(scored for scored_by_one in values_of_ranks(mine) for scored in scored_by_one)
        for column, key in enumerate(("ref_logps", "ref_KL_logps") if self.calculate_KL else ("ref_logps",)):
            dataset = dataset.add_column(key, [score for _, scores in everything for score in scores[column]])
        return dataset

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log what TRL does, its KL term under a name of its own: ``kl`` is estimated from sampled answers."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        if "kl" in metrics:
            metrics[KL_TERM] = metrics.pop("kl")
        super().log(logs, *args, **kwargs)

    def _save(self, *args: Any, **kwargs: Any) -> None:
        """Save a model with the dropout rates that its config came with."""
        with config_as_loaded(self._config_rates):
            super()._save(*args, **kwargs)


def build_labelled_trainer(inputs: TrainerInputs) -> Any:
    """Construct the trainer of labelled answers: a :class:`LabelledTrainer`, or TRL's own under Unsloth."""
    if inputs.config.provider == "unsloth":
        if inputs.config.disable_dropout:
            disable_dropout(inputs.options["model"])
        return KTOTrainer(args=inputs.make_arguments(), **inputs.options)
    return LabelledTrainer(inputs.config, inputs.callback.journal, args=inputs.make_arguments(), **inputs.options)
