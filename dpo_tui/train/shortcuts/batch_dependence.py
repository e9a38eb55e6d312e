"""Whether the reference's log-probability of an answer depends on more than its pair, so that it cannot be scored once.

Some rotary position embeddings (RoPE) change with the longest row of a batch: longrope (Phi-3 and Phi-4-mini) takes
other frequencies for the whole batch once a row is longer than the model was first trained on, dynamic NTK scales them
with the longest row. The reference's scores are then those of one batch, and a training step has another. With an
adapter the reference also draws whatever is random in training, since it is the policy's own model in training mode.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from dpo_tui.train.shortcuts.check_budget import CheckBudget, DatasetLengths
from dpo_tui.train.shortcuts.equivalence_check import batch_difference
from dpo_tui.train.shortcuts.random_draws import random_in_training


def rope_obstacle(model: Any, sizes: DatasetLengths) -> str | None:
    """Return why a model's RoPE depends on the batch, as a clause; None where it does not, or not for such rows.

    Args:
        model: a causal language model, with or without an adapter.
        sizes: of the pairs of a dataset, whose batches have no rows of another.
    """
    if not len(sizes):
        return None
    shortest, longest = int(sizes.rows.min()), int(sizes.rows.max())
    for module in model.modules():
        for kind, limit in _changing_ropes(module):
            # Without a limit in the config nothing is known about where it changes.
            changes = limit is None or limit < longest
            # longrope has two sets of frequencies, and rows that are all long have the same one.
            if kind == "longrope" and limit is not None and shortest > limit:
                changes = False
            if changes and shortest < longest:
                where = f", and from {limit:,} tokens on" if limit is not None else ""
                return (
                    f"the model's RoPE ({kind}) depends on the longest row of a batch{where}; "
                    f"the longest has {longest:,} tokens"
                )
    return None


def computed_obstacle(trainer: Any, sizes: DatasetLengths, budget: CheckBudget | None) -> str | None:
    """Compute the shortest row alone and beside a longer one; with an adapter, the reference twice in training mode.

    Args:
        trainer: TRL's DPOTrainer or KTOTrainer, its shortcuts off.
        sizes: of its training pairs or labelled answers.
        budget: which pays for it; None where no other check needs one.

    Returns:
        What differs, as a clause for a message; None where nothing does.
    """
    short = int(np.argmin(sizes.rows))
    short_row = trainer.train_dataset[short]
    probe = trainer.shortcuts.probe
    # A reference that is a model of its own, as in full fine-tuning, stays in evaluation mode.
    if trainer.config.use_lora and trainer.ref_model is None and probe is not None:
        random = random_in_training(
            trainer.model,
            # None for the answers of a KL term that the loss has not, or the probe batch.
            lambda: torch.stack(
                [one for one in trainer.compute_ref_log_probs(trainer.model, probe) if one is not None]
            ),
        )
        if random:
            return f"the reference draws random numbers in training: {random}"
    # Two pairs in a batch take twice the memory of one: where a step has one, half as long a pair has to do.
    most = float(sizes.rows.max()) * min(1.0, trainer.args.per_device_train_batch_size / 2)
    long = int(np.argmax(np.where(sizes.rows <= most, sizes.rows, 0)))
    if sizes.rows[long] <= sizes.rows[short]:
        return None
    # Made in any case: scores that are wrong are wrong in every step, and scoring once saves more than this costs.
    if budget is not None:
        budget.charge(budget.cost.of(4, int(sizes.rows[long])))
    difference = batch_difference(trainer, short_row, trainer.train_dataset[long])
    if not difference:
        return None
    return f"scores change by {difference:.2g} a token with a longer row in the batch"


def _changing_ropes(module: Any) -> Iterator[tuple[str, int | None]]:
    """Yield kind and limit of each RoPE of a module that depends on the batch; a limit in tokens, None if unknown."""
    kinds = vars(module).get("rope_type")
    by_layer = kinds if isinstance(kinds, dict) else {None: kinds}
    for layer, kind in by_layer.items():
        if kind == "longrope":
            yield kind, _first_trained_length(module, layer)
        elif isinstance(kind, str) and "dynamic" in kind:
            yield kind, getattr(module, "original_max_seq_len", None)


def _first_trained_length(module: Any, layer: str | None) -> int | None:
    parameters = getattr(getattr(module, "config", None), "rope_parameters", None) or {}
    if layer is not None:
        parameters = parameters.get(layer) or {}
    length = parameters.get("original_max_position_embeddings")
    return length if length is not None else getattr(module.config, "original_max_position_embeddings", None)
