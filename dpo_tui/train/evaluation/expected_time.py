"""How long a training may take, roughly, before its first step: from a forward pass and the tokens of its steps."""

from collections.abc import Callable
from typing import Any

import pyarrow.compute
import torch

from dpo_tui.train.evaluation.generation import forked_rng

_TRAINED_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids", "completion_ids", "input_ids")
_LOOKED_AT = 256
"""Rows whose tokens are counted."""
_PASSES = 3
"""Work of a step on a token, in forward passes: the pass and its gradients."""


def expected_seconds(trainer: Any, prompt: list[int], clock: Callable[[], float]) -> float:
    """Estimate the seconds of all steps of a training; 0 where the tokens of its rows are not known.

    A GPU is idle for most of a pass over one prompt, so that the estimate is too long there.

    Args:
        trainer: TRL's, ready to train.
        prompt: token ids of a prompt.
        clock: monotonic, in seconds.
    """
    tokens = _tokens_a_row(trainer.train_dataset) * _rows_trained(trainer)
    return _PASSES * tokens * _seconds_a_token(trainer, prompt, clock) if tokens and prompt else 0.0


def _seconds_a_token(trainer: Any, prompt: list[int], clock: Callable[[], float]) -> float:
    model = trainer.model
    ids = torch.tensor([prompt], device=model.device)
    was_training = model.training
    model.eval()
    seconds = 0.0
    try:
        with torch.no_grad(), forked_rng(model.device, 0), trainer.accelerator.autocast():
            for _ in range(2):  # the first pass of all also sets things up
                began = clock()
                model(input_ids=ids, use_cache=False)
                if model.device.type == "cuda":
                    torch.cuda.synchronize(model.device)
                seconds = clock() - began
    finally:
        model.train(was_training)
    return seconds / len(prompt)


def _tokens_a_row(dataset: Any) -> float:
    """Mean number of tokens of the first rows."""
    names = [name for name in _TRAINED_COLUMNS if name in dataset.column_names]
    rows = min(_LOOKED_AT, len(dataset))
    if not names or not rows:
        return 0.0
    table = dataset.select(range(rows)).with_format("arrow")[:]
    counts = [pyarrow.compute.sum(pyarrow.compute.list_value_length(table[name])).as_py() for name in names]
    return float(sum(counts) / rows)


def _rows_trained(trainer: Any) -> float:
    """Rows of all steps of this process."""
    args = trainer.args
    if args.max_steps > 0:
        return float(args.max_steps * args.per_device_train_batch_size * args.gradient_accumulation_steps)
    return float(args.num_train_epochs * len(trainer.train_dataset) / max(1, args.world_size))
