"""CPO (Xu et al. 2024, arXiv 2401.08417) and SimPO (Meng et al. 2024, arXiv 2405.14734), both without a reference.

Both are TRL's CPOTrainer (trl 1.16). CPO compares log-probabilities of whole answers, −log σ(β · difference), and adds
``cpo_alpha`` · mean −log π(token) of the chosen answer. SimPO compares means per token and asks for a margin,
−log σ(β · difference − γ), with ``simpo_gamma`` as γ; its paper adds nothing, and TRL's default ``cpo_alpha`` = 1.0
would. Where the losses start depends on the model: nothing is subtracted from its log-probabilities.
"""

import math
from typing import Any

from dpo_tui.strategies.dpo_losses import losses_of
from dpo_tui.strategies.metric_expectations import LN2
from dpo_tui.strategies.orpo import REFERENCE_FREE_METRICS, REFERENCE_FREE_SETTINGS
from dpo_tui.strategies.strategy import Betas, DataForm, LearningRates, LossScale, Settings, Strategy, disables_dropout

CPO_LOSSES = ("sigmoid", "hinge", "ipo")
"""The values of ``loss_type`` that CPOTrainer has too; its simpo is a strategy here, its alphapo is alpha in [trl]."""

_LITTLE = "hardly moves the loss when the model prefers the chosen answers"
_CPO_BETAS = Betas(0.01, 2.0, 0.1, "0.1 is usual", too_low=_LITTLE, too_high="is satisfied by the smallest preference")
"""The paper's and TRL's 0.1, for sums over whole answers as in DPO."""
_SIMPO_BETAS = Betas(
    1.0,
    20.0,
    2.0,
    "2.0 to 2.5 is usual for SimPO, and up to 10 is reported",
    too_low=_LITTLE,
    too_high="is satisfied by the smallest preference",
)
"""Paper and repository: 2.0 or 2.5 for the released models, "in many cases, an even larger beta (e.g., 10)"."""


def _number(settings: Settings, name: str, default: float) -> float:
    value = settings.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else default


def _refusal(settings: Settings) -> tuple[str, str] | None:
    names = losses_of(settings)
    if len(names) != 1 or names[0] not in CPO_LOSSES:
        return "loss_type", f"must be one of {', '.join(CPO_LOSSES)} alone: TRL's CPOTrainer has no other"
    return None


def _cpo_summary(settings: Settings) -> str:
    alpha = _number(settings, "cpo_alpha", 1.0)
    return f"β {settings.get('beta', 0.1):g} · loss {', '.join(losses_of(settings))} · α {alpha:g}"


def _simpo_summary(settings: Settings) -> str:
    alpha = _number(settings, "cpo_alpha", 0.0)
    words = f"β {settings.get('beta', 2.0):g} · γ {_number(settings, 'simpo_gamma', 1.0):g}"
    return words + (f" · α {alpha:g}" if alpha else "")


def _simpo_scale(settings: Settings) -> LossScale | None:
    """From where both answers are equally likely, softplus(γ), to 0; the start itself depends on the model."""
    smoothing, gamma = _number(settings, "label_smoothing", 0.0), _number(settings, "simpo_gamma", 1.0)
    shaped = isinstance(settings.get("trl"), dict) and settings["trl"].get("alpha")
    if smoothing or shaped or _number(settings, "cpo_alpha", 0.0):
        return None
    return LossScale(None, 0.0, math.log1p(math.exp(gamma)) / LN2)


def _adds_mean_of_tokens(default: float) -> Any:
    """Whether a mean over the tokens of a micro-batch is added, in which longer answers weigh more."""
    return lambda settings: _number(settings, "cpo_alpha", default) != 0


CPO = Strategy(
    name="cpo",
    title="CPO",
    method="Contrastive Preference Optimization",
    summary="trains on preference pairs and on the chosen answers, without a reference",
    data=DataForm.PAIRS,
    sequences_per_example=2,
    metrics=REFERENCE_FREE_METRICS,
    trl_arguments="CPOConfig",
    trl_location="experimental/cpo",
    settings=REFERENCE_FREE_SETTINGS | {"loss_type", "label_smoothing", "cpo_alpha"},
    defaults={"beta": 0.1, "cpo_alpha": 1.0},
    refusal=_refusal,
    smoothed_losses=frozenset({"sigmoid"}),
    providers=frozenset({"huggingface"}),
    enough_examples=500,
    loss_summary=_cpo_summary,
    # TRL's example of 2024: 8e-6 for whole models, 8e-5 for adapters; the authors' script takes 1e-4 for its adapter.
    # SimPO's authors compare with CPO at 3e-7 to 1e-6.
    learning_rates=LearningRates(low=3e-7, high=8e-6, lora=1e-4),
    betas=lambda settings: None if losses_of(settings) == ["ipo"] else _CPO_BETAS,
    disables_dropout=disables_dropout,
    micro_batch_changes_loss=_adds_mean_of_tokens(1.0),
    several_processes=True,
)

SIMPO = Strategy(
    name="simpo",
    title="SimPO",
    method="Simple Preference Optimization with a reference-free reward",
    summary="trains on preference pairs by the mean log-probability of their tokens, without a reference",
    data=DataForm.PAIRS,
    sequences_per_example=2,
    metrics=REFERENCE_FREE_METRICS,
    trl_arguments="CPOConfig",
    trl_location="experimental/cpo",
    settings=REFERENCE_FREE_SETTINGS | {"label_smoothing", "cpo_alpha", "simpo_gamma"},
    # γ / β = 0.5, where the authors' repository advises to begin.
    defaults={"beta": 2.0, "cpo_alpha": 0.0, "simpo_gamma": 1.0},
    smoothed_losses=frozenset({"sigmoid"}),
    providers=frozenset({"huggingface"}),
    enough_examples=500,
    loss_scale=_simpo_scale,
    loss_summary=_simpo_summary,
    # The authors search 3e-7, 5e-7 and 1e-6 for whole models, and find 1e-5 to do harm.
    learning_rates=LearningRates(low=3e-7, high=1e-6, lora=5e-6),
    betas=lambda settings: _SIMPO_BETAS,
    disables_dropout=disables_dropout,
    micro_batch_changes_loss=_adds_mean_of_tokens(0.0),
    several_processes=True,
)
