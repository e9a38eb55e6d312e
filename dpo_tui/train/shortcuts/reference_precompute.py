"""Log-probabilities of the reference computed once, before training: whether that pays, and the pass that does it.

The reference never changes, so its log-probability of an answer is the same in every epoch and at every evaluation.
TRL takes them from columns of the dataset: ``ref_chosen_logps`` and ``ref_rejected_logps`` of pairs, ``ref_logps`` and
``ref_KL_logps`` of labelled answers. :class:`ScoredColumns` says which.
"""

import importlib.metadata
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import transformers
import trl

from dpo_tui.config.schema import Config
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.train.model.sharding import is_sharded
from dpo_tui.train.shortcuts import reference_cache
from dpo_tui.train.shortcuts.shortcuts import ShortcutStatus
from dpo_tui.train.worker.distributed import values_of_ranks

# In a model's config, and without influence on a log-probability. Precision and attention have a part of their own.
_NOT_IN_THE_SCORES = {"_name_or_path", "transformers_version", "use_cache", "dtype"}
# Evaluations of a run without eval_steps, the one before the first step not counted (trainer/trainer_registry.py).
_EVALUATIONS = 5


@dataclass(frozen=True)
class ScoredColumns:
    """The columns of a dataset whose reference is scored.

    Attributes:
        tokens: token ids: of the prompt, and of each answer to it that is scored.
        scores: the log-probabilities of these answers, in the same order, as TRL names them.
        collated: what TRL's collator wants besides.
    """

    tokens: tuple[str, ...]
    scores: tuple[str, ...]
    collated: tuple[str, ...] = ()


PAIR_COLUMNS = ScoredColumns(("prompt_ids", "chosen_ids", "rejected_ids"), ("ref_chosen_logps", "ref_rejected_logps"))
ANSWER_COLUMNS = ScoredColumns(("prompt_ids", "completion_ids"), ("ref_logps",), ("label",))
"""Labelled answers of a loss without a KL term."""
KL_ANSWER_COLUMNS = ScoredColumns(
    ("prompt_ids", "completion_ids", "KL_completion_ids"), ("ref_logps", "ref_KL_logps"), ("label",)
)
"""Labelled answers, each with the answer of its neighbour in the micro-batch, for the KL term."""


def decide_precompute(config: Config, pairs: int, held_out: int, *, resumes: bool) -> ShortcutStatus:
    """Decide whether to compute the reference's log-probabilities before training, by counting its forward passes.

    Args:
        config: the run's settings.
        pairs: number of training pairs, or labelled answers.
        held_out: number of those held out.
        resumes: whether the run continues from a checkpoint, and so skips the evaluation before the first step.
    """
    setting = config.precompute_ref_log_probs
    if setting != "auto":
        return ShortcutStatus(setting == "on", f'precompute_ref_log_probs = "{setting}"')
    if config.sync_ref_model:
        return ShortcutStatus(False, "the reference moves")
    if config.trl.get("neftune_noise_alpha"):
        return ShortcutStatus(False, "neftune_noise_alpha adds noise to every forward of a training step")
    if (config.ref_model or not config.use_lora) and config.kl_prompts:
        return ShortcutStatus(False, "the KL estimate asks the reference model during training")
    steps = config.training_steps(pairs)
    planned = steps // config.eval_steps if config.eval_steps else _EVALUATIONS
    if config.eval_strategy == "epoch":
        planned = math.ceil(steps / config.steps_per_epoch(pairs))
    evaluations = planned + (not resumes)
    # The last batch of an epoch may be smaller than the effective batch, so both bound the pairs of all steps.
    trained = min(steps * config.effective_batch, math.ceil(pairs * config.num_train_epochs))
    every_time, once = trained + evaluations * held_out, pairs + held_out
    why = f"{once:,} {strategy_of(config).data.value} scored instead of {every_time:,}"
    return ShortcutStatus(True, why) if once < every_time else ShortcutStatus(False, f"it would be {why}")


def key_parts(config: Config, trainer: Any, weights: str | None) -> dict[str, Any] | None:
    """Return what the log-probabilities depend on besides the rows, for :func:`reference_cache.key_of`.

    Args:
        config: the run's settings.
        trainer: TRL's DPOTrainer or KTOTrainer.
        weights: digest of the model's weight files, None where it has none (a model of the hub).

    Returns:
        None where neither a digest nor a commit names the weights for certain.
    """
    reference = getattr(trainer, "ref_model", None) or trainer.model
    model = reference.config
    commit = getattr(model, "_commit_hash", None)
    if weights is None and commit is None:
        return None
    args = trainer.args
    settings = {name: value for name, value in model.to_dict().items() if name not in _NOT_IN_THE_SCORES}
    return {
        "weights": weights or f"{config.ref_model or config.model_name}@{commit}",
        # Not only the config's file, which belongs to the weights: settings may have been changed when it was loaded.
        "model": settings,
        "precision": [str(reference.dtype), args.bf16, args.fp16, config.use_4bit],
        "products": torch.get_float32_matmul_precision(),
        "attention": model._attn_implementation,
        "device": str(trainer.accelerator.device.type),
        # KTO cuts at the end alone, and has no loss that weighs the ends of answers.
        "lengths": [args.max_length, getattr(args, "truncation_mode", None), getattr(args, "ld_alpha", None)],
        **({"model_init": config.model_init} if config.model_init else {}),
        "versions": [torch.__version__, transformers.__version__, trl.__version__, _quantiser_version(config)],
    }


def _quantiser_version(config: Config) -> str | None:
    """Return the version of bitsandbytes, which rounds the weights, where it does so."""
    table = config.model_init.get("quantization_config") or {}
    rounded = config.use_4bit or any(table.get(name) for name in ("load_in_8bit", "load_in_4bit"))
    return importlib.metadata.version("bitsandbytes") if rounded else None


def compute_logps(
    trainer: Any,
    dataset: Any,
    columns: ScoredColumns,
    batch_size: int,
    *,
    exact_batches: bool,
    progress: Callable[[int], None],
) -> reference_cache.ReferenceLogps:
    """Compute the reference's log-probabilities of every row, longest rows first.

    So a batch that does not fit in memory fails at once, not after an hour. Several ranks share the batches, and each
    gets all scores; the batches are those of a single process, and so are the scores.

    Args:
        trainer: TRL's DPOTrainer or KTOTrainer.
        dataset: with the columns of token ids.
        columns: of the dataset.
        batch_size: rows in the batch of the longest rows.
        exact_batches: keep that number of rows in every batch; otherwise later batches grow to as many tokens.
        progress: called with the number of rows done.

    Returns:
        Log-probabilities by their column, in nats, in the dataset's order.
    """
    dataset = dataset.select_columns([*columns.tokens, *columns.collated])
    prompt, *answers = columns.tokens
    lengths = [len(row[prompt]) + max(len(row[name]) for name in answers) for row in dataset]
    # With an adapter there is no second model: TRL's compute_ref_log_probs runs the policy with the adapter disabled.
    # Without one, a reference of FSDP2 is divided by now; the policy is whole until the training, and the same model.
    model = trainer.model if trainer.ref_model is None or is_sharded(trainer.ref_model) else trainer.ref_model
    device = trainer.accelerator.device
    found = {name: [0.0] * len(lengths) for name in columns.scores}
    batches = list(_batches_by_length(lengths, batch_size, trainer.args.max_length, exact=exact_batches))
    rank, ranks = trainer.accelerator.process_index, trainer.accelerator.num_processes
    mine: list[tuple[int, *tuple[float, ...]]] = []
    done = 0
    # In rounds of one batch for each rank: progress() asks for a stop, a collective, so that all call it as often.
    for first in range(0, len(batches), ranks):
        for batch in batches[first + rank : first + rank + 1]:
            rows = trainer.data_collator([dataset[index] for index in batch])
            rows = {name: tensor.to(device) for name, tensor in rows.items()}
            scored = trainer.compute_ref_log_probs(model, rows)
            logps = [one.float().tolist() for one in scored if one is not None]
            mine += zip(batch, *logps, strict=True)
        done += sum(len(batch) for batch in batches[first : first + ranks])
        progress(done)
    for scores in values_of_ranks(mine):
        for index, *values in scores:
            for name, value in zip(columns.scores, values, strict=True):
                found[name][index] = value
    return found


def add_logps_columns(dataset: Any, logps: reference_cache.ReferenceLogps) -> Any:
    """Return the dataset with the columns from which TRL takes the reference's log-probabilities."""
    for name, values in logps.items():
        dataset = dataset.add_column(name, values)
    return dataset


def _batches_by_length(lengths: list[int], size: int, max_length: int | None, *, exact: bool) -> Iterator[list[int]]:
    """Batch the indices of rows of similar length, longest first.

    Unless ``exact``, batches of shorter rows have more of them, but no more tokens, padding included, than the first.
    """
    truncated = [min(length, max_length or length) for length in lengths]
    by_length = sorted(range(len(truncated)), key=lambda index: -truncated[index])
    # The first batch is the largest by memory, and the training step has room for it; no later one is larger in padded
    # tokens.
    max_tokens = size * truncated[by_length[0]] if by_length else 0
    first = 0
    # One slice for each batch: to copy the rest of the list each time took time with the square of the rows.
    while first < len(by_length):
        count = size if exact else max(size, max_tokens // max(1, truncated[by_length[first]]))
        yield by_length[first : first + count]
        first += count
