"""Transformers' sampler that groups by length, in an order that depends on seed and epoch only."""

from collections.abc import Iterator

import torch
from transformers import TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler


class SeededLengthGroupedSampler(LengthGroupedSampler):  # type: ignore[misc]
    """Groups examples of like length; the order of an epoch is the same in every process and after every resume.

    Transformers' class draws from torch's global generator when an epoch begins. Evaluations and sampled answers before
    the first step draw from it too, and an attempt that resumes does not repeat them: in mid-epoch it would then skip
    the first batches of another order, train some examples twice and others never. Ranks whose generators differ
    would share out different orders. Accelerate replaces a random sampler by one seeded with the seed plus the epoch
    (``SeedableRandomSampler``), but not this one.

    Args:
        batch_size: examples of an optimizer step.
        lengths: of all examples, in tokens.
        seed: of the run.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths, generator=torch.Generator())
        self.seed = seed
        self.epoch = 0

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(self.seed + self.epoch)
        indices: Iterator[int] = super().__iter__()
        return indices

    def set_epoch(self, epoch: int) -> None:
        """Select the order of an epoch; Trainer calls it, through accelerate's data loader, before each one."""
        self.epoch = epoch


def grouped_sampler(arguments: TrainingArguments, lengths: list[int]) -> SeededLengthGroupedSampler:
    """Return the sampler of a run's training examples, given their lengths in tokens."""
    # Of all processes together: so the order stays the same when a run resumes on another number of them.
    process_batch = arguments.train_batch_size * arguments.gradient_accumulation_steps
    examples = process_batch * arguments.world_size
    seed = arguments.seed if arguments.data_seed is None else arguments.data_seed
    return SeededLengthGroupedSampler(examples, lengths, seed)
