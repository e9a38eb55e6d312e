"""Metrics that TRL's trainers log: labels, the direction a healthy run takes, and the values that are out of bounds."""

import math
from dataclasses import dataclass
from typing import Literal

LN2 = math.log(2)
"""The loss −log σ(0) of a policy that does not prefer either answer yet."""

KL_REASONABLE = 10.0
"""Nats per answer: TRL's guidance for PPO calls a KL divergence to the reference below this reasonable."""

SPIKE = 10.0
"""A gradient norm of 0.01 to 10 is usual. A spike exceeds this value, and exceeds the median of its predecessors by
this factor."""
SPIKE_PREDECESSORS = 20
"""Number of preceding steps that a spike is compared with."""


@dataclass(frozen=True)
class Metric:
    """A metric that a strategy's trainer logs, also under ``eval_`` for held-out rows.

    Attributes:
        name: as TRL logs it.
        label: for tables and sentences; used where ``better`` is set.
        better: the direction of a healthy run; None where neither direction is better.
    """

    name: str
    label: str = ""
    better: Literal["up", "down"] | None = None


KL_TERM = "kl_term"
"""The KL term z of KTO's loss. TRL logs it as ``kl``, which here is the KL divergence that is estimated from sampled
answers."""
PREFERENCE_ACCURACY = "rewards/accuracies"
PREFERENCE_MARGIN = "rewards/margins"
PREFERENCE_METRICS = (
    Metric(PREFERENCE_ACCURACY, "accuracy", "up"),
    Metric("loss", "loss", "down"),
    Metric(PREFERENCE_MARGIN, "margin", "up"),
    Metric("rewards/chosen"),
    Metric("rewards/rejected"),
    Metric("logps/chosen"),
    Metric("logps/rejected"),
    Metric("logits/chosen"),
    Metric("logits/rejected"),
)
"""Logged by every trainer of TRL that compares a chosen with a rejected answer."""
