"""Forward and backward passes of a trainer's model over batches of its data, by which an attention is chosen.

The objective is the mean margin between the log-probabilities of chosen and rejected answers: where policy and
reference are the same model, the gradient of DPO's loss is a multiple of the margin's. Nothing of TRL's own state, such
as its metrics, is touched, and no optimizer is needed.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from dpo_tui.train.model import varlen_attention
from dpo_tui.train.shortcuts.attention_choice import PassResult
from dpo_tui.train.shortcuts.check_budget import CheckedRun, DatasetLengths
from dpo_tui.train.shortcuts.equivalence_check import Batch, Switch, collated, padded, token_logps

# Entries of a weight's gradient that are compared: copies of all gradients may need more memory than a step has.
_SAMPLED = 4096
_FEWEST_TOKENS = 16
"""Of a row that is worth comparing."""


class TrainingPasses:
    """Passes over two batches of a trainer's data; every one leaves the weights without gradients.

    One batch is timed: as many pairs as a step has, of typical lengths. The other is also computed as plain TRL does,
    which takes more memory: it has the same pairs, with prompts cut to their ends and answers to their beginnings so
    that its rows have no more tokens than the first has with its prompts shared. So no pass needs more memory than a
    step.

    Args:
        run: within the context of its shortcuts' checks.
        switch: turns sharing on or off.

    Raises:
        ValueError: the pairs are too short to be compared.
    """

    def __init__(self, run: CheckedRun, switch: Switch) -> None:
        self._trainer, self._models, self._switch = run.trainer, run.models, switch
        trainer, sizes = run.trainer, run.sizes
        self._own = run.models[0].config._attn_implementation
        chosen = typical_pairs(sizes, trainer.args.per_device_train_batch_size, run.trained)
        rows = [trainer.train_dataset[index] for index in chosen]
        tokens = int(sizes.spans[chosen].sum()) // (2 * len(rows))
        self._more = max(1, min(64, tokens // 4))
        if tokens - self._more < _FEWEST_TOKENS:
            raise ValueError(f"pairs of {tokens} tokens are too short to be compared")
        self._timed = collated(trainer, rows)
        self._compared = collated(trainer, [_cut(row, tokens - self._more) for row in rows])

    def plain(self) -> list[PassResult]:
        """Compute the cut batch as plain TRL does, as it is and with two paddings."""
        layouts = (self._compared, *(padded(self._compared, more) for more in {max(1, self._more // 8), self._more}))
        return [self._pass(batch, self._own, shared=False) for batch in layouts]

    def shared(self, attention: str) -> PassResult:
        """Compute the cut batch with shared prompts."""
        return self._pass(self._compared, attention, shared=True)

    def timed(self, attention: str) -> float:
        """Compute the batch of a step's size with shared prompts; return the seconds that it took."""
        began = clock()
        self._pass(self._timed, attention, shared=True)
        return clock() - began

    def _pass(self, batch: Batch, attention: str, *, shared: bool) -> PassResult:
        set_attention(self._models, attention)
        self._switch(shared)
        trained = [weight for weight in self._trainer.model.parameters() if weight.requires_grad]
        try:
            with _offloading(self._trainer):
                logps = token_logps(self._trainer, batch, gradients=True)
                labelled = batch["completion_mask"][:, 1:] == 1
                of_chosen = labelled.nonzero()[:, 0] < len(labelled) // 2
                # The reference's, where they follow, have no gradient.
                policy = logps[: len(of_chosen)]
                torch.where(of_chosen, policy, -policy).sum().div(len(labelled) // 2).backward()
            sample = [_sampled(weight.grad) for weight in trained if weight.grad is not None]
        finally:
            self._switch(False)
            for weight in trained:
                weight.grad = None
        return PassResult(logps.detach(), torch.cat(sample) if sample else torch.zeros(0))


def clock() -> float:
    """Return seconds on the clock, once the GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@contextlib.contextmanager
def checkpointing(trainer: Any, model: Any) -> Iterator[None]:
    """Compute activations twice where the training does: Trainer turns that on only when the training begins.

    Args:
        trainer: TRL's DPOTrainer.
        model: its policy without the adapter.
    """
    arguments = trainer.args
    if not arguments.gradient_checkpointing or any(
        getattr(one, "gradient_checkpointing", False) for one in model.modules()
    ):
        yield
        return
    options = dict(arguments.gradient_checkpointing_kwargs or {})
    # Of Trainer's own, and not of torch's function.
    own = {name: options.pop(name) for name in ("every_n_layers", "offload") if name in options}
    # transformers 5.23 renamed both, and warns of the older names.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    disable = getattr(model, "activation_checkpointing_disable", None) or model.gradient_checkpointing_disable
    enable(options or None, **own)
    try:
        yield
    finally:
        disable()


def release_memory() -> None:
    """Give back to the GPU what passes have left in torch's allocator, so that the first step begins as it would."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def set_attention(models: Sequence[Any], name: str) -> None:
    """Change the attention implementation of models."""
    if name == varlen_attention.NAME:
        varlen_attention.register()
    for model in models:
        if model.config._attn_implementation != name:
            model.set_attn_implementation(name)


def typical_pairs(sizes: DatasetLengths, count: int, trained: int) -> list[int]:
    """Return pairs of many lengths with no more tokens together than some step of the run certainly has.

    A step with as many tokens as an average one, or more, comes in every run. Of less than an epoch nobody knows which
    pairs it draws, only that they have at least as many tokens as the shortest ones.

    Args:
        sizes: of all pairs.
        count: pairs of a step.
        trained: pairs that the run trains on, repetitions counted.
    """
    order = np.argsort(sizes.spans, kind="stable")[: max(1, trained)]
    most = float(np.mean(sizes.spans[order])) * count
    places = (np.arange(count) + 0.5) / count * len(order)
    for smaller in np.linspace(1.0, 0.0, 21):
        chosen = order[(places * smaller).astype(int)]
        if sizes.spans[chosen].sum() <= most:
            break
    return [int(index) for index in chosen]


def _cut(row: dict[str, Any], length: int) -> dict[str, Any]:
    """Return a pair whose rows have at most ``length`` tokens, of prompt and answers about as many each."""
    answer = max(len(row["chosen_ids"]), len(row["rejected_ids"]))
    prompt = min(len(row["prompt_ids"]), max(length // 2, length - answer))
    cut = {name: row[name][: length - prompt] for name in ("chosen_ids", "rejected_ids")}
    return row | cut | {"prompt_ids": row["prompt_ids"][len(row["prompt_ids"]) - prompt :]}


def _sampled(gradient: torch.Tensor) -> torch.Tensor:
    flat = gradient.detach().flatten()
    return flat[:: -(-len(flat) // _SAMPLED)].float().cpu()


def _offloading(trainer: Any) -> Any:
    """TRL's context in which activations are kept in main memory; it is reused, as TRL does in every step."""
    names = ("maybe_activation_offload_context", "_offloading")
    return next((getattr(trainer, name) for name in names if hasattr(trainer, name)), contextlib.nullcontext())
