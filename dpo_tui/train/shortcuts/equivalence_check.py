"""Equivalence checks: log-probabilities of a batch with shortcuts against plain TRL, and what they depend on besides.

A *probe batch* is made of pairs of the training data. A shortcut has a *mismatch* when its log-probabilities differ
from plain TRL's by more than the *tolerance* and by more than plain TRL's differ between two paddings of one batch.
:mod:`dpo_tui.train.shortcuts.shortcuts` turns a shortcut with a mismatch off.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from dpo_tui.train.model.preserved_state import preserved_state
from dpo_tui.train.shortcuts.pair_layout import measure_pairs
from dpo_tui.train.shortcuts.prefix_sharing import REFUSALS, refusal_of

# Pairs among which the short probe batch is chosen, and pairs that it has.
_CANDIDATES = 64
_PROBE_PAIRS = 2
# On a CPU a forward pass takes seconds: there prompts are cut to their last tokens and answers to their first.
_CPU_PROMPT_TOKENS = 24
_CPU_ANSWER_TOKENS = 8
# In nats a token. In fp32 both ways agreed within 1e-5 on every model tried; a wrong mask or position moves single
# tokens by tenths.
TOLERANCE = 1e-3
"""Differences of log-probabilities up to it count as none."""
NOISE_FACTOR = 4.0
"""Half precision rounds differently in every batch layout: so many times plain TRL's own difference is allowed."""
_EXTRA_PADDING = 8

Switch = Callable[[bool], None]
"""Turns one shortcut on or off."""
Batch = dict[str, torch.Tensor]


def probe_batch(trainer: Any) -> Batch | None:
    """Collate the short probe batch: of the half of the first pairs that shares most, the two shortest.

    So a mistake in sharing shows in many tokens, and the check costs little time and memory. Where a training batch is
    one pair, so is this one.

    Returns:
        The batch on the trainer's device; None where none of the first pairs has a common prompt.
    """
    rows = trainer.train_dataset.select(range(min(_CANDIDATES, len(trainer.train_dataset))))
    candidates: list[tuple[float, int, int]] = []
    for number, row in enumerate(rows):
        batch = trainer.data_collator([row])
        pairs = measure_pairs(batch["input_ids"], batch["attention_mask"])
        if pairs and pairs[0].prompt and (pairs[0].chosen or pairs[0].rejected):
            candidates.append((pairs[0].prompt / pairs[0].packed, pairs[0].packed, number))
    if not candidates:
        return None
    count = min(_PROBE_PAIRS, trainer.args.per_device_train_batch_size)
    sharing_most = sorted(candidates, reverse=True)[: max(_PROBE_PAIRS, len(candidates) // 2)]
    shortest = sorted(sharing_most, key=lambda candidate: candidate[1])[:count]
    device_type = trainer.accelerator.device.type
    return collated(trainer, [_shorten_on_cpu(rows[number], device_type) for _, _, number in shortest])


def collated(trainer: Any, rows: Sequence[dict[str, Any]]) -> Batch:
    """Collate tokenised pairs as TRL does, on the trainer's device."""
    batch = trainer.data_collator(list(rows))
    return {name: tensor.to(trainer.accelerator.device) for name, tensor in batch.items()}


def _shorten_on_cpu(row: dict[str, Any], device_type: str) -> dict[str, Any]:
    if device_type != "cpu":
        return row
    prompt, answer = slice(-_CPU_PROMPT_TOKENS, None), slice(_CPU_ANSWER_TOKENS)
    parts = {"prompt_ids": prompt, "chosen_ids": answer, "rejected_ids": answer}
    return row | {name: row[name][part] for name, part in parts.items()}


def token_logps(trainer: Any, batch: Batch, *, auxiliary: bool = False, gradients: bool = False) -> torch.Tensor:
    """Return log π(token) of every token of an answer, ``[K]`` for the ``K`` such tokens of the batch, in fp32.

    Where the config names a reference, which may be of another family, its log-probabilities follow.

    Args:
        trainer: TRL's DPOTrainer.
        batch: collated.
        auxiliary: append the load-balancing loss of a mixture of experts, where TRL adds it to its own.
        gradients: let the policy's have gradients.
    """
    with torch.set_grad_enabled(gradients):
        logps = _logps_of(trainer, trainer.model, batch, auxiliary=auxiliary)
    reference = trainer.ref_model if getattr(trainer, "config", None) and trainer.config.ref_model else None
    if reference is None:
        return logps
    with preserved_state(reference), torch.no_grad():
        return torch.cat([logps, _logps_of(trainer, reference, batch, auxiliary=False)])


def _logps_of(trainer: Any, model: Any, batch: Batch, *, auxiliary: bool) -> torch.Tensor:
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "use_cache": False}
    auxiliary = auxiliary and getattr(trainer, "aux_loss_enabled", False)
    if auxiliary:
        inputs["output_router_logits"] = True
    labelled = batch["completion_mask"][:, 1:] == 1
    with trainer.accelerator.autocast():
        if trainer.shortcuts.has_fused_head:
            outputs = model(**inputs, labels=labels, fused_lm_head=True)
            logps: torch.Tensor = outputs.log_probs[labelled].float()
        else:
            outputs = model(**inputs)
            # Selected before they become fp32: all logits of a row, at four bytes for each word of the vocabulary, may
            # need more memory than the training step that the check precedes.
            logits = outputs.logits[:, :-1][labelled].float()
            logps = logits.log_softmax(-1).gather(1, labels[:, 1:][labelled].unsqueeze(1)).squeeze(1)
    if auxiliary:
        logps = torch.cat([logps, outputs.aux_loss.reshape(1).to(logps)])
    return logps


def largest_difference(plain: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest absolute difference of two tensors; infinite where a value is NaN."""
    largest = (plain - other).abs().max().item() if plain.numel() else 0.0
    # max() hands NaN on, and NaN compares false with every tolerance: it must not pass as agreement.
    return largest if largest == largest else float("inf")  # noqa: PLR0124 - only NaN differs from itself


def find_mismatch(trainer: Any, batch: Batch, switches: Sequence[Switch]) -> str | None:
    """Compare the log-probabilities of a batch with shortcuts on against plain TRL; leaves the shortcuts off.

    The load-balancing loss of a mixture of experts is compared too.

    Args:
        trainer: TRL's DPOTrainer, within the context of its shortcuts.
        batch: probe batch.
        switches: of the shortcuts to turn on together.

    Returns:
        What differs, as a clause for a message; None where nothing does.

    Raises:
        torch.OutOfMemoryError: the batch does not fit in the GPU's memory.
    """

    def logps(on: bool, rows: Batch) -> torch.Tensor:
        for switch in switches:
            switch(on)
        return token_logps(trainer, rows, auxiliary=True)

    # Every pass in the same mode and on the same batch, so that a difference is the shortcut's alone.
    plain = logps(False, batch)
    try:
        difference = largest_difference(plain, logps(True, batch))
    except REFUSALS as error:
        refusal = refusal_of(error)
        if refusal is None:
            raise
        return refusal
    finally:
        for switch in switches:
            switch(False)
    if difference <= TOLERANCE:
        return None
    # More padding changes no result, only the order in which sums are rounded: what that does is noise.
    noise = largest_difference(plain, logps(False, padded(batch, _EXTRA_PADDING)))
    if difference <= NOISE_FACTOR * noise:
        return None
    return (
        f"scores of a real batch differ by {difference:.2g} a token, those of plain TRL among themselves by {noise:.2g}"
    )


def padded(batch: Batch, more: int) -> Batch:
    """Return a batch with so many columns of padding more."""
    return {
        name: torch.nn.functional.pad(tensor, (0, more)) if tensor.ndim > 1 else tensor
        for name, tensor in batch.items()
    }


def batch_difference(trainer: Any, short: dict[str, Any], long: dict[str, Any]) -> float:
    """Return by how much a row's log-probabilities change where a longer one is in its batch; 0 where within noise.

    Args:
        trainer: TRL's DPOTrainer or KTOTrainer, its shortcuts off.
        short: a tokenised pair or labelled answer.
        long: a longer one.
    """
    alone, beside = collated(trainer, [short]), collated(trainer, [short, long])
    # Only the answers of the short row count: rows 0 and 2 of the four of pairs, row 0 of the two of single answers.
    beside["completion_mask"][1::2] = 0
    with preserved_state(trainer.model):
        # In evaluation mode: with dropout, two passes differ whatever else is in the batch.
        trainer.model.eval()
        first = token_logps(trainer, alone)
        difference = largest_difference(first, token_logps(trainer, beside))
        if difference <= TOLERANCE:
            return 0.0
        noise = largest_difference(first, token_logps(trainer, padded(alone, _EXTRA_PADDING)))
    return 0.0 if difference <= NOISE_FACTOR * noise else difference
