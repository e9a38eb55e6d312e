"""Equivalence check at the start of a run: log-probabilities of a probe batch with shortcuts against plain TRL.

The *probe batch* is two pairs of the training data. A shortcut has a *mismatch* when its log-probabilities differ from
plain TRL's by more than the *tolerance* and by more than plain TRL's differ between two paddings of the same batch.
:class:`dpo_tui.train.shortcuts.shortcuts.Shortcuts` turns a shortcut with a mismatch off.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from dpo_tui.train.shortcuts.pair_layout import measure_pairs

# Pairs among which the probe batch is chosen, and pairs that it has.
_CANDIDATES = 64
_PROBE_PAIRS = 2
# On a CPU a forward pass takes seconds: there prompts are cut to their last tokens and answers to their first.
_CPU_PROMPT_TOKENS = 24
_CPU_ANSWER_TOKENS = 8
# In nats a token. In fp32 both ways agreed within 1e-5 on every model tried; a wrong mask or position moves single
# tokens by tenths.
_TOLERANCE = 1e-3
# Half precision rounds differently in every batch layout: this many times plain TRL's own difference is allowed.
_NOISE_FACTOR = 4.0
_EXTRA_PADDING = 8

Switch = Callable[[bool], None]
"""Turns one shortcut on or off."""


def probe_batch(trainer: Any) -> dict[str, torch.Tensor] | None:
    """Collate the probe batch: of the half of the first pairs that shares most, the two shortest.

    So a mistake in sharing shows in many tokens, and the check costs little time and memory.

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
    sharing_most = sorted(candidates, reverse=True)[: max(_PROBE_PAIRS, len(candidates) // 2)]
    shortest = sorted(sharing_most, key=lambda candidate: candidate[1])[:_PROBE_PAIRS]
    device = trainer.accelerator.device
    batch = trainer.data_collator([_shorten_on_cpu(rows[number], device.type) for _, _, number in shortest])
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _shorten_on_cpu(row: dict[str, Any], device_type: str) -> dict[str, Any]:
    if device_type != "cpu":
        return row
    prompt, answer = slice(-_CPU_PROMPT_TOKENS, None), slice(_CPU_ANSWER_TOKENS)
    parts = {"prompt_ids": prompt, "chosen_ids": answer, "rejected_ids": answer}
    return row | {name: row[name][part] for name, part in parts.items()}


def token_logps(trainer: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return log π(token) of every token of an answer, ``[K]`` for the ``K`` such tokens of the batch, in fp32."""
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "use_cache": False}
    labelled = batch["completion_mask"][:, 1:] == 1
    with torch.no_grad(), trainer.accelerator.autocast():
        if trainer.shortcuts.has_fused_head:
            outputs = trainer.model(**inputs, labels=labels, fused_lm_head=True)
            logps: torch.Tensor = outputs.log_probs[labelled].float()
            return logps
        logits = trainer.model(**inputs).logits[:, :-1][labelled].float()
    return logits.log_softmax(-1).gather(1, labels[:, 1:][labelled].unsqueeze(1)).squeeze(1)


def largest_difference(plain: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest absolute difference of two tensors; infinite where a value is NaN."""
    largest = (plain - other).abs().max().item() if plain.numel() else 0.0
    # max() hands NaN on, and NaN compares false with every tolerance: it must not pass as agreement.
    return largest if largest == largest else float("inf")  # noqa: PLR0124 - only NaN differs from itself


def find_mismatch(trainer: Any, batch: dict[str, torch.Tensor], switches: Sequence[Switch]) -> str | None:
    """Compare the log-probabilities of a batch with shortcuts on against plain TRL; leaves the shortcuts off.

    Args:
        trainer: ready to train.
        batch: the probe batch, on the trainer's device.
        switches: of the shortcuts to turn on together.

    Returns:
        The mismatch, as a clause for a message; None where the log-probabilities agree.

    Raises:
        torch.OutOfMemoryError: the batch does not fit in the GPU's memory.
    """

    def logps(on: bool, rows: dict[str, torch.Tensor]) -> torch.Tensor:
        for switch in switches:
            switch(on)
        return token_logps(trainer, rows)

    plain = logps(False, batch)
    try:
        difference = largest_difference(plain, logps(True, batch))
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        # An error of the model's own code under the packed inputs is a mismatch; a lack of memory is not, although
        # torch derives its error from RuntimeError.
        if isinstance(error, torch.OutOfMemoryError):
            raise
        first_line = (str(error).strip().splitlines() or [""])[0]
        return f"the model refuses it: {type(error).__name__}: {first_line[:200]}"
    finally:
        for switch in switches:
            switch(False)
    if difference <= _TOLERANCE:
        return None
    # More padding changes no result, only the order in which sums are rounded: what that does is noise.
    padded = {
        name: torch.nn.functional.pad(tensor, (0, _EXTRA_PADDING)) if tensor.ndim > 1 else tensor
        for name, tensor in batch.items()
    }
    noise = largest_difference(plain, logps(False, padded))
    if difference <= _NOISE_FACTOR * noise:
        return None
    return (
        f"scores of a real batch differ by {difference:.2g} a token, those of plain TRL among themselves by {noise:.2g}"
    )
