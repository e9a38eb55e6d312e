"""What in the results of compared runs is chance, in words. Standard library only.

An accuracy over n pairs is a share of n trials; whether two of them differ by more than chance is decided by the
interval of Agresti and Caffo (2000) for the difference of two shares, which also holds near 0 and 1: with
p = (wins + 1) / (n + 2) of each, it is p1 - p2 ± z·sqrt(p1(1 - p1)/(n1 + 2) + p2(1 - p2)/(n2 + 2)). It takes the runs
as independent. Two runs on the same pairs mostly err on the same ones, so that the interval is rather too wide: what it
calls more than chance is so.
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

ACCURACY = "eval_rewards/accuracies"
"""The one result that is a share of counted pairs; of losses and margins the spread over the pairs is not recorded."""
_Z = 1.96
"""Quantile of the standard normal distribution for a two-sided 95 % interval."""


def noise_notes(
    names: Sequence[str],
    different: Mapping[str, Sequence[Any]],
    digests: Sequence[str | None],
    accuracies: Sequence[float | None],
    held_out: Sequence[int | None],
) -> list[str]:
    """Say which differences between runs are chance, or may be.

    Args:
        names: what the runs are called.
        different: the settings that are not the same in all.
        digests: checksum of each run's training data.
        accuracies: held-out accuracy of each run, 0 to 1.
        held_out: number of pairs that each was evaluated on; pass none where they are not the same pairs.
    """
    if set(different) <= {"seed"} and None not in digests and len(set(digests)) == 1:
        alike = "Only the seed differs" if different else "Settings and data are the same"
        return [f"{alike}: what differs in the results is chance."]
    known = [
        (accuracy, name, n)
        for accuracy, name, n in zip(accuracies, names, held_out, strict=True)
        if accuracy is not None and n
    ]
    notes = []
    if len(known) > 1:
        best, first, n = max(known)
        others = [(accuracy, name, count) for accuracy, name, count in known if name != first]
        even = [name for accuracy, name, count in others if not differs(best, n, accuracy, count)]
        behind = [name for _, name, _ in others if name not in even]
        if even:
            notes.append(f"Held-out accuracy on {n:,} pairs: {first} and {', '.join(even)} are the same within chance.")
        if behind:
            more = "more than chance makes (95 %)"
            notes.append(f"Held-out accuracy on {n:,} pairs: {first} is ahead of {', '.join(behind)} by {more}.")
    return [*notes, "What chance does to the other results is not recorded: another seed shows it."]


def differs(one: float, n_one: int, other: float, n_other: int) -> bool:
    """Whether two shares differ by more than chance makes, at 95 %.

    Args:
        one: share of successes in the first sample, 0 to 1.
        n_one: its size.
        other: share of successes in the second sample.
        n_other: its size.
    """
    first, second = (one * n_one + 1) / (n_one + 2), (other * n_other + 1) / (n_other + 2)
    variance = first * (1 - first) / (n_one + 2) + second * (1 - second) / (n_other + 2)
    return abs(first - second) > _Z * sqrt(variance)
