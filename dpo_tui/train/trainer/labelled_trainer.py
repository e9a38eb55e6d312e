"""TRL's KTOTrainer with phases in the journal, our caches, the sparse LM head, and names that say which KL is meant."""

from dataclasses import replace
from functools import partial
from typing import Any

import trl
from packaging.version import Version
from trl import KTOTrainer

from dpo_tui.config.schema import Config
from dpo_tui.strategies.metric_expectations import KL_TERM
from dpo_tui.train.model.dropout_rates import config_as_loaded, disable_dropout
from dpo_tui.train.shortcuts import reference_precompute
from dpo_tui.train.shortcuts.head_shortcut import HeadShortcut
from dpo_tui.train.trainer.lora_plus import LoraPlus
from dpo_tui.train.trainer.reference_scores import ReferenceScores, trl_scores_first
from dpo_tui.train.trainer.sharded_state import ShardedState
from dpo_tui.train.trainer.shared_evaluation import SharedEvaluation
from dpo_tui.train.trainer.token_forms import AnswerForm
from dpo_tui.train.trainer.token_rearrangement import with_kl_answers
from dpo_tui.train.trainer.tokenised_rows import RowKind, TokenisedRows
from dpo_tui.train.trainer.trainers import TrainerInputs
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequests

if Version(trl.__version__) < Version("1.16"):
    raise ImportError("KTOTrainer became stable in TRL 1.16; earlier ones have other methods and another KL term")
__all__ = ["KTOTrainer", "LabelledTrainer", "build_labelled_trainer"]


class LabelledTrainer(LoraPlus, ReferenceScores, SharedEvaluation, ShardedState, TokenisedRows, KTOTrainer):  # type: ignore[misc]
    """TRL's KTOTrainer; the loss is TRL's.

    In several processes the KL term of a step's part is, as in TRL, the mean over the micro-batches that all of them
    compute at once: it is the loss of one process whose micro-batch is theirs together, and not of one whose
    micro-batch is that of each.

    Args:
        config: the run's settings.
        journal: receives phases, notes and progress.
        stop_requests: checked while the reference is scored.
        shortcuts: the sparse LM head, and whether the reference is scored once; also an attribute, for the receipt.
        **options: of KTOTrainer.
    """

    def __init__(
        self, config: Config, journal: Journal, stop_requests: StopRequests, shortcuts: HeadShortcut, **options: Any
    ) -> None:
        self.config = config
        self.journal = journal
        self.stop_requests = stop_requests
        self.shortcuts = shortcuts
        self._policy, self._reference = options["model"], options.get("ref_model")
        # TRL's disable_dropout reaches torch's dropout modules only.
        self._config_rates = disable_dropout(options["model"]) if options["args"].disable_dropout else []
        self.start_weights_digest()
        super().__init__(**options)
        if self.ref_model is not None and self.args.disable_dropout:
            disable_dropout(self.ref_model)
        self.shortcuts.install(self)
        self.score_reference_once()
        self._reference = None
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
        # TRL gives each answer the completion of its neighbour in the micro-batch, for the KL term.
        size = args.per_device_train_batch_size if self.calculate_KL else None
        kind = RowKind("answers", AnswerForm(), ("labelled", size))
        if size:
            kind = replace(kind, finish=partial(with_kl_answers, size=size))
        rows = self.tokenised(dataset, processing_class, args, dataset_name, super()._prepare_dataset, kind=kind)
        part = "training" if dataset_name == "train" else "held-out"
        if self.calculate_KL and len(rows) % args.per_device_train_batch_size == 1:
            self.journal.event(
                "note",
                f"The last micro-batch of the {len(rows):,} {part} answers has one answer: its KL term is of that "
                "answer itself, as in TRL",
            )
        self.check_rope(rows, args, self._reference or self._policy)
        return rows

    @property
    def scored_columns(self) -> reference_precompute.ScoredColumns:
        """The columns of token ids, and those of scores."""
        if self.calculate_KL:
            return reference_precompute.KL_ANSWER_COLUMNS
        return reference_precompute.ANSWER_COLUMNS

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
    config, rows, journal = inputs.config, inputs.rows, inputs.callback.journal
    shortcuts = HeadShortcut(journal)
    held_out = len(rows.held_out) if rows.held_out is not None else 0
    shortcuts.reference = reference_precompute.decide_precompute(
        config, len(rows.train), held_out, resumes=inputs.resumes
    )
    arguments = inputs.make_arguments(reference_once=shortcuts.reference.on and trl_scores_first(config))
    return LabelledTrainer(config, journal, inputs.callback.stop_requests, shortcuts, args=arguments, **inputs.options)
