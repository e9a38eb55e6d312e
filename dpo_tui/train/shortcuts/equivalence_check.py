"""The check at the start of a run: a real batch is scored both ways; a shortcut that changes the scores is off."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from dpo_tui.train.shortcuts.pair_layout import pair_lengths

# Out of so many pairs, of those that share much: the check should tell a lot and cost little.
_LOOKED_AT = 64
_PAIRS = 2
# On a processor a forward pass costs seconds: there the pairs are cut to the prompt's end and the answers' begin.
_CUT_ON_CPU = (24, 8)
# Natural-log units a token. In fp32 the two ways agreed within 1e-5 on every model tried; a wrong mask or position
# moves single tokens by tenths.
_TOLERANCE = 1e-3
# Half precision rounds differently in every batch layout: what plain TRL differs from itself, times this, is allowed.
_NOISE_ALLOWANCE = 4.0
_EXTRA_PADDING = 8


def probe_batch(trainer: Any) -> dict[str, torch.Tensor] | None:
    """Collate two pairs: the shortest among the half that shares most; None where the first pairs share nothing."""
    rows = trainer.train_dataset.select(range(min(_LOOKED_AT, len(trainer.train_dataset))))
    found: list[tuple[float, int, int]] = []
    for number, row in enumerate(rows):
        batch = trainer.data_collator([row])
        pairs = pair_lengths(batch["input_ids"], batch["attention_mask"])
        if pairs and pairs[0].prompt and (pairs[0].chosen or pairs[0].rejected):
            found.append((pairs[0].prompt / pairs[0].shared, pairs[0].shared, number))
    if not found:
        return None
    sharing_most = sorted(found, reverse=True)[: max(_PAIRS, len(found) // 2)]
    shortest = sorted(sharing_most, key=lambda one: one[1])[:_PAIRS]
    device = trainer.accelerator.device
    batch = trainer.data_collator([_cut(rows[number], device.type) for _, _, number in shortest])
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _cut(row: dict[str, Any], device: str) -> dict[str, Any]:
    if device != "cpu":
        return row
    prompt, answer = _CUT_ON_CPU
    ends = {"prompt_ids": slice(-prompt, None), "chosen_ids": slice(answer), "rejected_ids": slice(answer)}
    return row | {name: row[name][part] for name, part in ends.items()}


def token_scores(trainer: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return log π(token) of every labelled token of a batch, one after the other."""
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "use_cache": False}
    keep = batch["completion_mask"][:, 1:] == 1
    with torch.no_grad(), trainer.accelerator.autocast():
        if trainer.shortcuts.has_fused_head:
            outputs = trainer.model(**inputs, labels=labels, fused_lm_head=True)
            scores: torch.Tensor = outputs.log_probs[keep].float()
            return scores
        logits = trainer.model(**inputs).logits[:, :-1][keep].float()
    return logits.log_softmax(-1).gather(1, labels[:, 1:][keep].unsqueeze(1)).squeeze(1)


def difference(plain: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest difference of two lists of scores; infinite where one is not finite."""
    found = (plain - other).abs().max().item() if plain.numel() else 0.0
    return found if found == found else float("inf")  # noqa: PLR0124 - NaN is the only value that is not itself


def disagreement(trainer: Any, batch: dict[str, torch.Tensor], ways: Sequence[Callable[[bool], None]]) -> str | None:
    """Score a batch plainly and with shortcuts.

    Args:
        trainer: ready to train.
        batch: as collated, on the device.
        ways: each switches one shortcut on or off.

    Returns:
        What differs, as the end of a sentence; None where the scores agree.
    """

    def scores(on: bool, rows: dict[str, torch.Tensor]) -> torch.Tensor:
        for switch in ways:
            switch(on)
        return token_scores(trainer, rows)

    plain = scores(False, batch)
    try:
        found = difference(plain, scores(True, batch))
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        words = str(error).strip().splitlines() or [""]
        return f"the model refuses it: {type(error).__name__}: {words[0][:200]}"
    finally:
        for switch in ways:
            switch(False)
    if found <= _TOLERANCE:
        return None
    padded = {
        name: torch.nn.functional.pad(tensor, (0, _EXTRA_PADDING)) if tensor.ndim > 1 else tensor
        for name, tensor in batch.items()
    }
    noise = difference(plain, scores(False, padded))
    if found <= _NOISE_ALLOWANCE * noise:
        return None
    return f"scores of a real batch differ by {found:.2g} a token, those of plain TRL among themselves by {noise:.2g}"
