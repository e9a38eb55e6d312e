"""Mixin of TRL's trainers with a reference: it is scored once where that pays, and its scores are kept for other runs.

:mod:`dpo_tui.train.shortcuts.reference_precompute` decides and computes, :mod:`dpo_tui.train.shortcuts.reference_cache`
keeps. TRL's own cache is not used: it goes by the fingerprint of a dataset in memory, and hashes every weight first.
"""

from typing import Any

from dpo_tui.config.schema import Config
from dpo_tui.errors import TrainingError
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.train.model.reference_loading import release_reference
from dpo_tui.train.model.sharding import is_sharded
from dpo_tui.train.shortcuts import reference_cache, reference_precompute
from dpo_tui.train.shortcuts.batch_dependence import computed_obstacle, rope_obstacle
from dpo_tui.train.shortcuts.check_budget import DatasetLengths
from dpo_tui.train.worker.distributed import broadcast_from_first
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequests


def trl_scores_first(config: Config) -> bool:
    """Whether TRL's constructor has the reference scored where it is scored once.

    Without an adapter TRL loads a second model as the reference unless its arguments say that it is precomputed. With
    one, and with a reference that the config names, it is scored after the constructor.
    """
    return not config.use_lora and config.ref_model is None


class ReferenceScores:
    """Scores the reference of TRL's DPOTrainer or KTOTrainer once.

    Attributes:
        config: the run's settings.
        journal: receives phases, notes and progress.
        stop_requests: checked while the reference is scored.
        shortcuts: have ``reference``, ``probe``, ``sizes``, ``budget``, ``install`` and ``checking`` of
            :class:`dpo_tui.train.shortcuts.shortcuts.Shortcuts`.
    """

    config: Config
    journal: Journal
    stop_requests: StopRequests
    shortcuts: Any
    # TRL's trainer sets these.
    args: Any
    accelerator: Any
    model: Any
    ref_model: Any
    train_dataset: Any
    eval_dataset: Any
    precompute_ref_logps: bool
    is_deepspeed_enabled: bool

    _scores_doubtful = False
    _weights: reference_cache.WeightsDigest | None = None

    @property
    def scored_columns(self) -> reference_precompute.ScoredColumns:
        """The columns of token ids, and those of scores."""
        raise NotImplementedError

    def start_weights_digest(self) -> None:
        """Begin to hash the reference's weights, for the key of the cache; called before TRL's constructor."""
        # Rank 0 alone looks into the cache.
        if self.shortcuts.reference.on and self.journal.rank.is_first:
            self._weights = reference_cache.WeightsDigest(self.config.ref_model or self.config.model_name)

    def check_rope(self, rows: Any, args: Any, model: Any) -> None:
        """Score the reference in the steps where its RoPE depends on the batch; called with a tokenised dataset.

        Before TRL looks at its arguments to decide whether full fine-tuning needs a reference model.
        """
        if not self.shortcuts.reference.on:
            return
        lengths = DatasetLengths.of(rows, args.max_length, self.scored_columns.tokens)
        obstacle = rope_obstacle(model, lengths)
        if obstacle and self._leave_reference_in_steps(obstacle):
            self.precompute_ref_logps = args.precompute_ref_log_probs = False

    def score_reference_once(self) -> None:
        """Score the reference of both datasets where that is on and TRL's constructor has not had it done."""
        # With an adapter the reference is the policy without it, and we score it here: TRL would hash every weight for
        # its own cache first.
        if self.shortcuts.reference.on and not self.precompute_ref_logps:
            self._replace_datasets()
        if self.precompute_ref_logps and self.ref_model is not None:
            release_reference(self)

    def _replace_datasets(self) -> None:
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
        if not shortcuts.sizes:
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
            return super()._precompute_ref_logps(dataset, name, batch_size)  # type: ignore[misc]
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
        columns = self.scored_columns
        rows = dataset.select_columns(list(columns.tokens))
        key = reference_cache.key_of(parts, rows, columns.tokens) if parts else None
        return key, broadcast_from_first(reference_cache.load(key, columns.scores, len(dataset)) if key else None)

    @property
    def _is_spread_out(self) -> bool:
        """Whether the weights are spread over several processes, which all must run each forward pass."""
        return bool(is_sharded(self.model) or self.is_deepspeed_enabled)

    def _score(self, dataset: Any, batch_size: int) -> reference_cache.ReferenceLogps:
        unit = strategy_of(self.config).data.value

        def progress(done: int) -> None:
            self.journal.progress(done, len(dataset), unit)
            self.stop_requests.raise_if_stopped()

        exact = self.args.precompute_ref_batch_size is not None
        return reference_precompute.compute_logps(
            self, dataset, self.scored_columns, batch_size, exact_batches=exact, progress=progress
        )
