"""The reference's scores once, before training: whether that pays, and the pass that does it.

The reference never changes, so its log-probability of an answer is the same in every epoch and at every evaluation.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import transformers
import trl

from dpo_tui.config.schema import Config
from dpo_tui.train.shortcuts import reference_cache
from dpo_tui.train.shortcuts.shortcuts import Outcome

# Our own evaluations: one before the first step, five on the way (arguments.py).
_EVALUATIONS = 5


def decide(config: Config, pairs: int, held_out: int, *, resumes: bool) -> Outcome:
    """Decide by counting forward passes of the reference, in pairs.

    Args:
        config: the run's settings.
        pairs: to train on.
        held_out: to evaluate on.
        resumes: whether the run goes on from a checkpoint.
    """
    asked = config.precompute_ref_log_probs
    if asked != "auto":
        return Outcome(asked == "on", f'precompute_ref_log_probs = "{asked}"')
    if config.sync_ref_model:
        return Outcome(False, "the reference moves")
    if not config.use_lora and config.kl_prompts:
        return Outcome(False, "the KL estimate asks the reference model during training")
    steps = config.training_steps(pairs)
    evaluations = (steps // config.eval_steps if config.eval_steps else _EVALUATIONS) + (not resumes)
    each_step = min(steps * config.effective_batch, math.ceil(pairs * config.num_train_epochs))
    every_time, once = each_step + evaluations * held_out, pairs + held_out
    words = f"{once:,} pairs scored instead of {every_time:,}"
    return Outcome(True, words) if once < every_time else Outcome(False, f"it would be {words}")


def key_parts(config: Config, trainer: Any, weights: str | None) -> dict[str, Any] | None:
    """Return what scores depend on besides the pairs; None where the model cannot be named for certain."""
    model = trainer.model.config
    commit = getattr(model, "_commit_hash", None)
    if weights is None and commit is None:
        return None
    return {
        "weights": weights or f"{config.model_name}@{commit}",
        "model": model.to_dict().get("architectures"),
        "precision": [str(trainer.model.dtype), trainer.args.bf16, trainer.args.fp16, config.use_4bit],
        "attention": model._attn_implementation,
        "device": str(trainer.accelerator.device.type),
        "lengths": [config.max_seq_length, config.truncation_mode, config.ld_alpha],
        "versions": [torch.__version__, transformers.__version__, trl.__version__],
    }


def score(
    trainer: Any, dataset: Any, batch_size: int, *, exact_batches: bool, progress: Callable[[int], None]
) -> reference_cache.Scores:
    """Score every pair with the reference, longest first, so that memory runs out at once or not at all.

    Args:
        trainer: TRL's DPOTrainer.
        dataset: with prompt_ids, chosen_ids and rejected_ids.
        batch_size: pairs in a batch of the longest.
        exact_batches: whether later batches keep that size instead of that many tokens.
        progress: called with the number of pairs done.

    Returns:
        The log-probabilities of chosen and rejected answers, in the dataset's order.
    """
    dataset = dataset.select_columns(list(reference_cache.TOKENS))
    lengths = [len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in dataset]
    model = trainer.ref_model or trainer.model
    device = trainer.accelerator.device
    chosen, rejected = [0.0] * len(lengths), [0.0] * len(lengths)
    done = 0
    for batch in _batches(lengths, batch_size, trainer.args.max_length, exact=exact_batches):
        rows = trainer.data_collator([dataset[index] for index in batch])
        rows = {name: tensor.to(device) for name, tensor in rows.items()}
        scores = [side.float().tolist() for side in trainer.compute_ref_log_probs(model, rows)]
        for index, for_chosen, for_rejected in zip(batch, *scores, strict=True):
            chosen[index], rejected[index] = for_chosen, for_rejected
        done += len(batch)
        progress(done)
    return chosen, rejected


def with_scores(dataset: Any, scores: reference_cache.Scores) -> Any:
    """Return the dataset with the columns from which TRL takes the reference's scores."""
    names = ("ref_chosen_logps", "ref_rejected_logps")
    for name, values in zip(names, scores, strict=True):
        dataset = dataset.add_column(name, values)
    return dataset


def _batches(lengths: list[int], size: int, max_length: int | None, *, exact: bool) -> Iterator[list[int]]:
    """Group pairs of like length; no batch has more tokens, padding counted, than one of the longest pairs."""
    cut = [min(length, max_length or length) for length in lengths]
    order = sorted(range(len(cut)), key=lambda index: -cut[index])
    room = size * cut[order[0]] if order else 0
    while order:
        count = size if exact else max(size, room // max(1, cut[order[0]]))
        yield order[:count]
        order = order[count:]
