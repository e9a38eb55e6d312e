"""Evaluation by several processes that gives the numbers of one: each held-out row is computed once.

Accelerate deals rows out in equal parts and repeats some where they do not come out even. Trainer drops the repeated
losses again (``gather_for_metrics``), but TRL's trainers average rewards and accuracies over all of them, in means over
as many rows as all processes take at once. Here the batches are those of a single process, and each is computed by one
of the processes; only their results are gathered, and averaged in the order of the batches.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput

from dpo_tui.train.model.sharding import is_sharded
from dpo_tui.train.worker.distributed import values_of_ranks


class SharedEvaluation:
    """Mixin of a subclass of TRL's trainers, before TRL's class."""

    # Of transformers' Trainer and TRL's trainers.
    accelerator: Any
    args: Any
    callback_handler: Any
    control: Any
    is_deepspeed_enabled: bool
    model: Any
    prediction_step: Any
    state: Any
    _metrics: Any

    def stored_metrics(self) -> Any:
        """Values of an evaluation by metric, a list each, of which TRL's ``log`` makes means."""
        return self._metrics["eval"]

    def evaluation_loop(
        self, dataloader: Any, description: str, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any
    ) -> EvalLoopOutput:
        """Evaluate this process's batches, and return the loss over those of all; metrics are left for TRL's ``log``.

        In a single process this is Trainer's own loop.
        """
        if self.accelerator.num_processes == 1 or self.is_deepspeed_enabled:
            loop = super().evaluation_loop  # type: ignore[misc]
            return loop(dataloader, description, *args, metric_key_prefix=metric_key_prefix, **kwargs)
        # Not the DDP module: its forward synchronises buffers, a collective, and processes have different numbers of
        # batches.
        model = self.accelerator.unwrap_model(self.model)
        model.eval()
        rows, size = len(dataloader.dataset), self.args.eval_batch_size
        batches = [range(first, min(first + size, rows)) for first in range(0, rows, size)]
        ranks = self.accelerator.num_processes
        mine = list(range(self.accelerator.process_index, len(batches), ranks))
        if is_sharded(self.model):
            # A forward pass of a divided model is a collective: all compute as many batches. One that is left without
            # computes the first again, and its result is not used.
            mine += [0] * (-(-len(batches) // ranks) - len(mine))
        loader = DataLoader(
            dataloader.dataset,
            batch_sampler=[list(batches[index]) for index in mine],
            collate_fn=dataloader.collate_fn,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )
        self.callback_handler.eval_dataloader = loader
        self.stored_metrics().clear()
        results: list[tuple[int, int, float, dict[str, list[float]]]] = []
        with _gathering_nothing(self.accelerator):
            for index, inputs in zip(mine, loader, strict=True):
                loss, _, _ = self.prediction_step(model, inputs, prediction_loss_only=True)
                metrics = {name: list(values) for name, values in self.stored_metrics().items()}
                self.stored_metrics().clear()
                if index % ranks == self.accelerator.process_index:
                    results.append((index, len(batches[index]), float(loss), metrics))
                self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        everything = sorted(result for results_of_one in values_of_ranks(results) for result in results_of_one)
        for *_, metrics in everything:
            for name, values in metrics.items():
                self.stored_metrics()[name].extend(values)
        # Of all rows, as Trainer's loss: a short batch counts for as many as it has.
        loss = sum(count * loss for _, count, loss, _ in everything) / rows
        return EvalLoopOutput(None, None, {f"{metric_key_prefix}_loss": loss}, rows)


@contextlib.contextmanager
def _gathering_nothing(accelerator: Any) -> Iterator[None]:
    """Make accelerate's gather return what this process has: TRL's loss gathers for its metrics in every batch."""

    def own(tensors: torch.Tensor, **_: Any) -> torch.Tensor:
        return tensors

    # On the instance: the class is every other accelerator's too.
    accelerator.gather = accelerator.gather_for_metrics = own
    try:
        yield
    finally:
        del accelerator.gather, accelerator.gather_for_metrics
