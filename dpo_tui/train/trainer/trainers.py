"""Subclasses of TRL's trainers: phases in the journal, caches of tokens and reference scores, shortcuts.

`trainer_registry` says which strategy uses which, and makes TRL's arguments. Rows become token ids in TRL's own
``_prepare_dataset``, or come from `token_cache` if an earlier run has tokenised the same ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from transformers import TrainingArguments
from trl import DPOTrainer, SFTTrainer

from dpo_tui.config.schema import Config
from dpo_tui.train.model.dropout_rates import disable_dropout
from dpo_tui.train.shortcuts import reference_precompute
from dpo_tui.train.shortcuts.shortcuts import Shortcuts
from dpo_tui.train.trainer.callbacks import RunCallback
from dpo_tui.train.trainer.grouped_sampler import grouped_sampler
from dpo_tui.train.trainer.lora_plus import LoraPlus
from dpo_tui.train.trainer.pair_rows import PairRows
from dpo_tui.train.trainer.reference_scores import ReferenceScores, trl_scores_first
from dpo_tui.train.trainer.run_datasets import RunDatasets
from dpo_tui.train.trainer.sharded_state import ShardedState
from dpo_tui.train.trainer.shared_evaluation import SharedEvaluation
from dpo_tui.train.trainer.token_forms import ConversationForm
from dpo_tui.train.trainer.token_rearrangement import packed
from dpo_tui.train.trainer.tokenised_rows import RowKind, TokenisedRows
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequests


class PairTrainer(LoraPlus, ReferenceScores, SharedEvaluation, ShardedState, PairRows, DPOTrainer):  # type: ignore[misc]
    """TRL's DPOTrainer with phases in the journal, our shortcuts, and our caches of tokens and reference scores.

    Args:
        config: the run's settings.
        journal: receives phases, notes and progress.
        stop_requests: checked while the reference is scored.
        shortcuts: to install; also an attribute, for the receipt.
        **options: of DPOTrainer.
    """

    # Declared for mypy; TRL's trainer sets them.
    train_dataset: Any
    eval_dataset: Any
    precompute_ref_logps: bool

    def __init__(
        self, config: Config, journal: Journal, stop_requests: StopRequests, shortcuts: Shortcuts, **options: Any
    ) -> None:
        self.config = config
        self.journal = journal
        self.stop_requests = stop_requests
        self.shortcuts = shortcuts
        self._policy, self._reference = options["model"], options.get("ref_model")
        # TRL's disable_dropout reaches torch's dropout modules only.
        self._config_rates = disable_dropout(self._policy) if options["args"].disable_dropout else []
        self.start_weights_digest()
        super().__init__(**options)
        if self.ref_model is not None and self.args.disable_dropout:
            disable_dropout(self.ref_model)
        shortcuts.install(self)
        self.score_reference_once()
        self._reference = None

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """Tokenise a dataset as TRL does, or take its rows from the token cache."""
        self.journal.phase("load-pairs")
        if "prompt_ids" in dataset.column_names:
            return super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        rows = self.tokenised_pairs(dataset, processing_class, args, dataset_name, super()._prepare_dataset)
        self.check_rope(rows, args, self._reference or self._policy)
        return rows

    @property
    def scored_columns(self) -> reference_precompute.ScoredColumns:
        """The columns of token ids, and those of scores."""
        return reference_precompute.PAIR_COLUMNS

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
        """Return the reference's log-probabilities of a batch, with shared prompts where that is on."""
        with self.shortcuts.sharing:
            self.shortcuts.check_larger_pairs(self, inputs)
            return super().compute_ref_log_probs(model, inputs)

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Compute the loss of a batch, with shared prompts where that is on."""
        with self.shortcuts.sharing:
            self.shortcuts.check_larger_pairs(self, inputs)
            return super().compute_loss(model, inputs, *args, **kwargs)


class DemonstrationTrainer(LoraPlus, SharedEvaluation, ShardedState, TokenisedRows, SFTTrainer):  # type: ignore[misc]
    """TRL's SFTTrainer with the phase of its tokenising in the journal, and our cache of tokens.

    Args:
        config: the run's settings.
        journal: receives phases, notes and progress.
        stop_requests: checked while rows are tokenised.
        **options: of SFTTrainer.
    """

    # Declared for mypy; TRL's trainer sets them.
    chat_template: str | None
    completion_only_loss: bool

    def __init__(self, config: Config, journal: Journal, stop_requests: StopRequests, **options: Any) -> None:
        self.config = config
        self.journal = journal
        self.stop_requests = stop_requests
        super().__init__(**options)

    def _prepare_dataset(  # noqa: PLR0917 (as TRL calls it)
        self, dataset: Any, processing_class: Any, args: Any, packing: bool, formatting_func: Any, dataset_name: str
    ) -> Any:
        """Tokenise a dataset as TRL does, or take its rows from the token cache."""
        self.journal.phase("load-pairs")
        prepare = super()._prepare_dataset

        def by_trl(some: Any, tokenizer: Any, arguments: Any, name: str) -> Any:
            return prepare(some, tokenizer, arguments, packing, formatting_func, name)

        # Shuffled before it is packed or used: by TRL, which does that with all rows.
        if getattr(args, "shuffle_dataset", False) or formatting_func is not None or (packing and not args.max_length):
            return by_trl(dataset, processing_class, args, dataset_name)
        template = getattr(self, "chat_template", None)
        form = ConversationForm(template, bool(self.completion_only_loss), bool(args.assistant_only_loss), packing)
        key = ("demonstrations", template, form.completion_only, form.assistant_only, processing_class.eos_token)
        kind = RowKind("demonstrations", form, key)
        if packing:
            pack = partial(packed, length=args.max_length, strategy=args.packing_strategy)
            kind = RowKind("demonstrations", form, (*key, args.packing_strategy), pack)
        return self.tokenised(dataset, processing_class, args, dataset_name, by_trl, kind=kind)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Group by length in an order that a resume repeats, which Trainer's own sampler does not."""
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length" or "input_ids" not in dataset.column_names:
            return super()._get_train_sampler(train_dataset)
        return grouped_sampler(self.args, [len(ids) for ids in dataset["input_ids"]])


@dataclass(frozen=True)
class TrainerInputs:
    """What the trainer of a run is constructed from.

    Attributes:
        config: the run's settings.
        rows: to train and to evaluate on.
        callback: writes metrics and follows requests.
        resumes: whether the run resumes from a checkpoint.
        make_arguments: returns TRL's arguments for this run; its keywords are the extra ones of the strategy, such as
            ``reference_once`` of :func:`dpo_tui.train.trainer.trainer_registry.dpo_arguments`.
        options: keyword arguments of TRL's trainer, all but ``args``.
    """

    config: Config
    rows: RunDatasets
    callback: RunCallback
    resumes: bool
    make_arguments: Callable[..., TrainingArguments]
    options: dict[str, Any]


def build_pair_trainer(inputs: TrainerInputs) -> Any:
    """Construct the trainer of DPO: a :class:`PairTrainer`, or TRL's own under Unsloth."""
    config, rows, journal = inputs.config, inputs.rows, inputs.callback.journal
    if config.provider == "unsloth":
        if config.disable_dropout:
            disable_dropout(inputs.options["model"])
        # Unsloth has rewritten the methods that PairTrainer overrides.
        return DPOTrainer(args=inputs.make_arguments(), **inputs.options)
    held_out = len(rows.held_out) if rows.held_out is not None else 0
    # NEFTune's noise depends on the length of a row, and shared prompts are in longer rows.
    noise = bool(config.trl.get("neftune_noise_alpha"))
    shortcuts = Shortcuts(journal, "off" if noise else config.share_prefix)
    shortcuts.reference = reference_precompute.decide_precompute(
        config, len(rows.train), held_out, resumes=inputs.resumes
    )
    arguments = inputs.make_arguments(reference_once=shortcuts.reference.on and trl_scores_first(config))
    return PairTrainer(config, journal, inputs.callback.stop_requests, shortcuts, args=arguments, **inputs.options)


def build_demonstration_trainer(inputs: TrainerInputs) -> Any:
    """Construct the trainer of supervised fine-tuning."""
    config, journal, stop_requests = inputs.config, inputs.callback.journal, inputs.callback.stop_requests
    return DemonstrationTrainer(config, journal, stop_requests, args=inputs.make_arguments(), **inputs.options)


def shortcuts_of(trainer: Any) -> dict[str, Any]:
    """Return what receipt.json lists as a trainer's shortcuts; empty where it has none."""
    shortcuts = getattr(trainer, "shortcuts", None)
    report: dict[str, Any] = shortcuts.report() if shortcuts is not None else {}
    return report
