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
from dpo_tui.train.trainer.evaluation_means import BatchMetrics, MeansOverRows
from dpo_tui.train.worker.distributed import values_of_ranks


class SharedEvaluation(MeansOverRows):
    """Mixin of a subclass of TRL's trainers, before TRL's class."""

    # Of transformers' Trainer and TRL's trainers.
    accelerator: Any
    args: Any
    callback_handler: Any
    control: Any
    model: Any
    state: Any

    def evaluation_loop(
        self, dataloader: Any, description: str, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any
    ) -> EvalLoopOutput:
        """Evaluate this process's batches, and return the loss over those of all; metrics are left for TRL's ``log``.

        In a single process this is Trainer's own loop.
        """
        if self.accelerator.num_processes == 1:
            return super().evaluation_loop(
                dataloader, description, *args, metric_key_prefix=metric_key_prefix, **kwargs
            )
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
        self.evaluation_lists.clear()
        self.evaluation_batches = []
        results: list[tuple[int, float, BatchMetrics]] = []
        with _gathering_nothing(self.accelerator):
            for index, inputs in zip(mine, loader, strict=True):
                loss, _, _ = self.prediction_step(model, inputs, prediction_loss_only=True)
                if index % ranks == self.accelerator.process_index:
                    results.append((index, float(loss), self.evaluation_batches[-1]))
                self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        self.evaluation_batches = None
        # In the order of the batches, so that sums round as in a single process.
        everything = sorted((one for of_rank in values_of_ranks(results) for one in of_rank), key=lambda one: one[0])
        self.leave_means(batch for *_, batch in everything)
        # Of all rows, as Trainer's loss: a short batch counts for as many as it has.
        loss = sum(batch.counts.rows * loss for _, loss, batch in everything) / rows
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
