"""The losses of TRL's DPOTrainer as numbers: where each starts, how low it can fall, and which β is usual for it.

All formulas are those of trl 1.16, ``DPOTrainer._compute_loss``, with every log-ratio log π − log π_ref at 0: before
the first update policy and reference are the same model. f-divergences, ``ld_alpha`` and the length normalisation of
``ipo`` and ``sigmoid_norm`` change nothing there. A test computes both numbers with TRL's own code.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dpo_tui.strategies.metric_expectations import LN2
from dpo_tui.strategies.strategy import Betas, LossScale, Settings, has_other_reference

Number = Callable[[Settings], float]


@dataclass(frozen=True)
class DpoLoss:
    """What is known about one loss.

    Attributes:
        start: its value where policy and reference are the same model; None where that depends on the model.
        floor: the lowest value that it approaches for one pair as the log-ratios change.
        betas: sensible values of β.
        compares_means: whether it compares means per token. The accuracy that TRL logs compares sums over whole
            answers, which such a loss can leave below one half while it falls.
        sorts_micro_batch: whether it sorts the log-ratios within a micro-batch.
        lowers_chosen: whether it makes the chosen answer less likely on purpose.
    """

    start: Number | None
    floor: Number | None
    betas: Betas
    compares_means: bool = False
    sorts_micro_batch: bool = False
    lowers_chosen: bool = False


def _number(settings: Settings, name: str, default: float) -> float:
    """A numeric setting, or TRL's default where it is missing or, in a damaged file, no number."""
    value = settings.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else default


def _over_beta_squared(share: float) -> Number:
    """A share of 1 / β²."""

    def start(settings: Settings) -> float:
        beta = _number(settings, "beta", 0.1)
        return share / beta**2 if beta > 0 else math.inf

    return start


def _smoothing(settings: Settings) -> float:
    return _number(settings, "label_smoothing", 0.0)


def _always(value: float) -> Number:
    return lambda settings: value


def _entropy(settings: Settings) -> float:
    """Entropy of a label that is wrong with the probability ``label_smoothing``."""
    wrong = _smoothing(settings)
    return -(wrong * math.log(wrong) + (1 - wrong) * math.log(1 - wrong)) if 0 < wrong < 1 else 0.0


def _exo_start(settings: Settings) -> float:
    """KL of the uniform distribution over both answers from (1 − ε, ε)."""
    wrong = _smoothing(settings)
    return -LN2 - 0.5 * (math.log(1 - wrong) + math.log(wrong)) if 0 < wrong < 1 else math.inf


_OF_ANSWERS = Betas(0.01, 2.0, 0.1, "0.1 to 0.5 is usual")
"""TRL's default 0.1; below 0.01 the reference hardly holds the policy, above 2.0 the policy hardly moves."""
_OF_MEAN_TOKENS = Betas(1.0, 20.0, 5.0, "5 is usual for sigmoid_norm, 2 to 10 elsewhere")
"""Differences of means per token are smaller than those of whole answers: Tülu 3 (arXiv 2411.15124) and OLMo 3 take
β = 5, SimPO (arXiv 2405.14734), normalised in the same way, 2 to 10."""
_NOISE_CONTRASTIVE = Betas(0.001, 2.0, 0.1, "0.01 to 0.1 is usual")
"""NCA (arXiv 2402.05369) takes 0.01 and less."""
_SPPO = Betas(0.0005, 2.0, 0.1, "0.001 to 0.1 is usual")
"""SPPO (arXiv 2405.00675) takes 0.001: 1 / 2β is the log-ratio in nats at which its loss is 0."""

DPO_LOSSES: Mapping[str, DpoLoss] = {
    "sigmoid": DpoLoss(_always(LN2), _always(0.0), _OF_ANSWERS),
    "hinge": DpoLoss(_always(1.0), _always(0.0), _OF_ANSWERS),
    "ipo": DpoLoss(_over_beta_squared(0.25), _always(0.0), _OF_ANSWERS, compares_means=True),
    "exo_pair": DpoLoss(_exo_start, _always(0.0), _OF_ANSWERS),
    # At its lowest σ(chosen reward) = 2 / 3, and the rejected reward goes to −∞.
    "nca_pair": DpoLoss(_always(2 * LN2), _always(1.5 * math.log(3) - LN2), _NOISE_CONTRASTIVE),
    # Unbounded below with label smoothing; 0 is where the pair would be certain without it.
    "robust": DpoLoss(_always(LN2), _always(0.0), _OF_ANSWERS),
    "bco_pair": DpoLoss(_always(2 * LN2), _always(0.0), _OF_ANSWERS),
    "sppo_hard": DpoLoss(_over_beta_squared(0.5), _always(0.0), _SPPO),
    "aot": DpoLoss(_always(LN2), _entropy, _OF_ANSWERS, sorts_micro_batch=True),
    "aot_unpaired": DpoLoss(_always(LN2), _entropy, _OF_ANSWERS, sorts_micro_batch=True),
    "apo_zero": DpoLoss(_always(1.0), _always(0.0), _OF_ANSWERS),
    "apo_down": DpoLoss(_always(1.0), _always(0.0), _OF_ANSWERS, lowers_chosen=True),
    "discopop": DpoLoss(_always(0.5 * (LN2 + 1)), _always(0.0), _OF_ANSWERS),
    "sft": DpoLoss(None, None, _OF_ANSWERS),
    "sigmoid_norm": DpoLoss(_always(LN2), _always(0.0), _OF_MEAN_TOKENS, compares_means=True),
}
"""Every value of ``loss_type``, and what is known about it."""


def losses_of(settings: Settings) -> list[str]:
    """Return the run's losses; one that is not set is ``sigmoid``."""
    losses = settings.get("loss_type") or ["sigmoid"]
    return [str(name) for name in losses] if isinstance(losses, (list, tuple)) else [str(losses)]


def loss_scale(settings: Settings) -> LossScale | None:
    """Return start and scale of a run's loss; None where a loss is unknown, or none of them has a start of its own.

    Several losses are added up with their weights (``loss_weights``). WPO weighs every pair by how likely the policy
    finds it, so that the start is unknown. The auxiliary loss of a mixture of experts comes on top of all of this.
    """
    names = losses_of(settings)
    weights = settings.get("loss_weights") or [1.0] * len(names)
    fits = isinstance(weights, (list, tuple)) and len(weights) == len(names)
    if not fits or not all(name in DPO_LOSSES for name in names):
        return None
    start = floor = 0.0
    found = False
    # With another reference the log-ratios are not 0 before the first update.
    complete = not settings.get("use_weighting", False) and not has_other_reference(settings)
    for name, weight in zip(names, weights, strict=True):
        loss = DPO_LOSSES[name]
        if loss.start is None or loss.floor is None:
            complete = complete and weight == 0
            continue
        found = True
        start += weight * loss.start(settings)
        floor += weight * loss.floor(settings)
    if not found or not math.isfinite(start) or start <= floor:
        return None
    return LossScale(start if complete else None, floor, (start - floor) / LN2)


def betas_of(settings: Settings) -> Betas | None:
    """Return the sensible β of a run's losses: what all of them allow; None where they contradict each other."""
    betas = [DPO_LOSSES[name].betas for name in losses_of(settings) if name in DPO_LOSSES and name != "sft"]
    if not betas:
        return None
    low, high = max(one.low for one in betas), min(one.high for one in betas)
    if low > high or any(one.usual != betas[0].usual for one in betas):
        return None
    return Betas(low, high, betas[0].usual, betas[0].advice)


def with_sft_loss(settings: Settings) -> dict[str, Any]:
    """Return the settings that add a fifth of the ``sft`` loss to a run's losses; empty where they have it already."""
    losses = losses_of(settings)
    if "sft" in losses:
        return {}
    weights = settings.get("loss_weights") or [1.0] * len(losses)
    return {"loss_type": [*losses, "sft"], "loss_weights": [*weights, 0.2]}
