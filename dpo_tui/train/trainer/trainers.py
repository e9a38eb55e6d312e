"""Subclasses of TRL's trainers: phases in the journal, caches of tokens and reference scores, shortcuts.

`trainer_registry` says which strategy uses which, and makes TRL's arguments. Rows become token ids in TRL's own
``_prepare_dataset``, or come from `token_cache` if an earlier run has tokenised the same ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import TrainingArguments
from trl import DPOTrainer, SFTTrainer

from dpo_tui.config.schema import Config
from dpo_tui.errors import TrainingError
from dpo_tui.train.model.dropout_rates import disable_dropout
from dpo_tui.train.model.reference_loading import release_reference
from dpo_tui.train.model.sharding import is_sharded
from dpo_tui.train.shortcuts import reference_cache, reference_precompute
from dpo_tui.train.shortcuts.batch_dependence import computed_obstacle, rope_obstacle
from dpo_tui.train.shortcuts.check_budget import DatasetLengths
from dpo_tui.train.shortcuts.shortcuts import Shortcuts
from dpo_tui.train.trainer.callbacks import RunCallback
from dpo_tui.train.trainer.grouped_sampler import grouped_sampler
from dpo_tui.train.trainer.pair_rows import PairRows
from dpo_tui.train.trainer.run_datasets import RunDatasets
from dpo_tui.train.trainer.sharded_state import ShardedState
from dpo_tui.train.trainer.shared_evaluation import SharedEvaluation
from dpo_tui.train.worker.distributed import broadcast_from_first
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequests


class PairTrainer(SharedEvaluation, ShardedState, PairRows, DPOTrainer):  # type: ignore[misc]
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
        self._scores_doubtful = False
        # TRL's disable_dropout reaches torch's dropout modules only.
        self._config_rates = disable_dropout(self._policy) if options["args"].disable_dropout else []
        # Rank 0 alone looks into the cache, and hashes the weights for that.
        looks_up = shortcuts.reference.on and journal.rank.is_first
        self._weights = reference_cache.WeightsDigest(config.ref_model or config.model_name) if looks_up else None
        super().__init__(**options)
        if self.ref_model is not None and self.args.disable_dropout:
            disable_dropout(self.ref_model)
        shortcuts.install(self)
        # With an adapter the reference is the policy without it, and we score it here: TRL would hash every weight for
        # its own cache first.
        if shortcuts.reference.on and not self.precompute_ref_logps:
            self._score_reference_once()
        self._reference = None
        if self.precompute_ref_logps and self.ref_model is not None:
            release_reference(self)

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """Tokenise a dataset as TRL does, or take its rows from the token cache."""
        self.journal.phase("load-pairs")
        if "prompt_ids" in dataset.column_names:
            return super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        rows = self.tokenised(dataset, processing_class, args, dataset_name, super()._prepare_dataset)
        # Before TRL looks at its arguments to decide whether full fine-tuning needs a reference model.
        if self.shortcuts.reference.on:
            lengths = DatasetLengths.of(rows, args.max_length)
            obstacle = rope_obstacle(self._reference or self._policy, lengths)
            if obstacle and self._leave_reference_in_steps(obstacle):
                self.precompute_ref_logps = args.precompute_ref_log_probs = False
        return rows

    def _score_reference_once(self) -> None:
        """Replace both datasets by datasets with the reference's log-probabilities as columns."""
        if self._is_spread_out:
            self.shortcuts.reference.on = False
            self.shortcuts.reference.why = "the model is spread over several processes"
            return
        if (obstacle := self._computed_obstacle()) and self._leave_reference_in_steps(obstacle):
            return
        size = self.args.precompute_ref_batch_size
        self.train_dataset = self._precompute_ref_logps(
            self.train_dataset, "train", size or self.args.per_device_train_batch_size
        )
        if self.eval_dataset is not None:
            self.eval_dataset = self._precompute_ref_logps(
                self.eval_dataset, "eval", size or self.args.per_device_eval_batch_size
            )
        self.precompute_ref_logps = self.args.precompute_ref_log_probs = True

    def _leave_reference_in_steps(self, obstacle: str) -> bool:
        """Score the reference in every step, because scored once it would have other scores.

        Returns:
            False where the user asked for it with ``precompute_ref_log_probs = "on"``: then the reference is scored
            once, and its scores are not kept for other runs.
        """
        reference = self.shortcuts.reference
        if self.config.precompute_ref_log_probs == "on":
            if self._scores_doubtful:
                return False
            self._scores_doubtful = True
            reference.why = f'precompute_ref_log_probs = "on", although {obstacle}'
            self.journal.event("warning", f"The reference's scores are not those of the steps: {obstacle}")
            return False
        reference.on, reference.why = False, obstacle
        self.journal.event("note", f"The reference is scored in every step: {obstacle}")
        return True

    def _computed_obstacle(self) -> str | None:
        shortcuts = self.shortcuts
        if shortcuts.sizes is None or shortcuts.budget is None:
            return None
        with shortcuts.checking(self.model):
            found = computed_obstacle(self, shortcuts.sizes, shortcuts.budget)
        # One decision for all ranks: GPUs of two kinds may compute different ones, and what follows has collectives.
        obstacle: str | None = broadcast_from_first(found)
        return obstacle

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """Add the reference's log-probabilities to a dataset: from the cache, else computed without TRL's own cache."""
        self.journal.phase("reference")
        # TRL may call this from its constructor, before ours has installed them; installing twice is harmless.
        self.shortcuts.install(self)
        if self._is_spread_out:
            return super()._precompute_ref_logps(dataset, name, batch_size)
        if (
            self.ref_model is None
            and not self.config.use_lora
            and (obstacle := self._computed_obstacle())
            and self._leave_reference_in_steps(obstacle)
        ):
            # TRL has made no reference model by now.
            raise TrainingError(
                f"the reference cannot be scored once: {obstacle}", hint='set precompute_ref_log_probs = "off"'
            )
        key, logps = self._kept_scores(dataset)
        self.shortcuts.reference.figures.setdefault("kept_from_before", {})[name] = logps is not None
        if logps is None:
            logps = self._score(dataset, batch_size)
            if key:
                reference_cache.store(key, logps)
        else:
            self.journal.event("note", f"{len(dataset):,} reference scores are kept from an earlier run ({name})")
        return reference_precompute.add_logps_columns(dataset, logps)

    def _kept_scores(self, dataset: Any) -> tuple[str | None, reference_cache.ReferenceLogps | None]:
        """The cache key of a dataset's reference scores (on rank 0 alone), and the scores that are kept (on each)."""
        if not self.accelerator.is_main_process:
            return None, broadcast_from_first(None)
        weights = self._weights.result() if self._weights else None
        parts = None if self._scores_doubtful else reference_precompute.key_parts(self.config, self, weights)
        pairs = dataset.select_columns(list(reference_cache.TOKEN_COLUMNS))
        key = reference_cache.key_of(parts, pairs) if parts else None
        return key, broadcast_from_first(reference_cache.load(key, len(dataset)) if key else None)

    @property
    def _is_spread_out(self) -> bool:
        """Whether the weights are spread over several processes, which all must run each forward pass."""
        return bool(is_sharded(self.model) or self.is_deepspeed_enabled)

    def _score(self, dataset: Any, batch_size: int) -> reference_cache.ReferenceLogps:
        def progress(done: int) -> None:
            self.journal.progress(done, len(dataset), "pairs")
            self.stop_requests.raise_if_stopped()

        exact = self.args.precompute_ref_batch_size is not None
        return reference_precompute.compute_logps(self, dataset, batch_size, exact_batches=exact, progress=progress)

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


class DemonstrationTrainer(SharedEvaluation, ShardedState, SFTTrainer):  # type: ignore[misc]
    """TRL's SFTTrainer with the phase of its tokenising in the journal."""

    def __init__(self, journal: Journal, **options: Any) -> None:
        self.journal = journal
        super().__init__(**options)

    def _prepare_dataset(self, *args: Any, **kwargs: Any) -> Any:
        self.journal.phase("load-pairs")
        return super()._prepare_dataset(*args, **kwargs)

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
    # Without an adapter, TRL loads a second model as the reference unless its arguments say that it is precomputed. One
    # that is named is here already, and scored by us.
    start_is_reference = config.ref_model is None
    arguments = inputs.make_arguments(
        reference_once=shortcuts.reference.on and not config.use_lora and start_is_reference
    )
    return PairTrainer(config, journal, inputs.callback.stop_requests, shortcuts, args=arguments, **inputs.options)


def build_demonstration_trainer(inputs: TrainerInputs) -> Any:
    """Construct the trainer of supervised fine-tuning."""
    return DemonstrationTrainer(inputs.callback.journal, args=inputs.make_arguments(), **inputs.options)


def shortcuts_of(trainer: Any) -> dict[str, Any]:
    """Return what receipt.json lists as a trainer's shortcuts; empty where it has none."""
    shortcuts = getattr(trainer, "shortcuts", None)
    report: dict[str, Any] = shortcuts.report() if shortcuts is not None else {}
    return report
