"""Kahneman-Tversky Optimization (Ethayarajh et al. 2024, arXiv 2402.01306) on unpaired answers with a label.

All formulas are those of trl 1.16, ``KTOTrainer._compute_loss``. With r = log π − log π_ref of an answer, the loss is
w_D · (1 − σ(β (r − z))) of a desirable and w_U · (1 − σ(β (z − r))) of an undesirable one. z is the KL term: the mean r
of the answers of the micro-batch, each moved on to the next prompt, and at least 0.
"""

from dpo_tui.strategies.dpo import REFERENCE_SETTINGS
from dpo_tui.strategies.metric_expectations import KL_TERM, LN2, PREFERENCE_MARGIN, Metric
from dpo_tui.strategies.strategy import (
    Betas,
    DataForm,
    LearningRates,
    LossScale,
    Settings,
    Strategy,
    disables_dropout,
    has_other_reference,
)

SMALLEST_MICRO_BATCH = 2
"""With one answer the KL term would be that answer's own log-ratio; TRL raises."""
BALANCE = (1.0, 4 / 3)
"""TRL's documentation of KTOTrainer: (desirable_weight × desirable) : (undesirable_weight × undesirable) should be in
the range 1:1 to 4:3, from Eq. (8) of arXiv 2402.01306."""


def weights_of(settings: Settings) -> tuple[float, float]:
    """Return desirable_weight and undesirable_weight; TRL's default where one is missing or no number."""
    desirable, undesirable = settings.get("desirable_weight", 1.0), settings.get("undesirable_weight", 1.0)
    return tuple(float(one) if isinstance(one, (int, float)) else 1.0 for one in (desirable, undesirable))  # type: ignore[return-value]


def _loss_summary(settings: Settings) -> str:
    desirable, undesirable = weights_of(settings)
    weights = "" if desirable == undesirable == 1 else f" · weights {desirable:g} : {undesirable:g}"
    return f"β {settings.get('beta', 0.1):g} · loss kto{weights}"


def _loss_scale(settings: Settings) -> LossScale:
    """Every answer begins at half its weight; with two weights the start depends on the labels of the micro-batch."""
    desirable, undesirable = weights_of(settings)
    mean = (desirable + undesirable) / 2
    # With another reference than the start the log-ratios are not 0 before the first update.
    known = desirable == undesirable and not has_other_reference(settings)
    start = 0.5 * desirable if known else None
    return LossScale(start, 0.0, 0.5 * mean / LN2)


def _betas(settings: Settings) -> Betas:
    """TRL's default 0.1 is also the paper's; below 0.01 the reference hardly holds the policy, as in DPO."""
    return Betas(0.01, 2.0, 0.1, "0.1 is usual")


KTO = Strategy(
    name="kto",
    title="KTO",
    method="Kahneman-Tversky Optimization",
    summary="trains on single answers that are labelled desirable or not, such as thumbs",
    data=DataForm.LABELLED,
    sequences_per_example=1,
    kl_sequences_per_example=1,
    metrics=(
        Metric(PREFERENCE_MARGIN, "margin", "up"),
        Metric("loss", "loss", "down"),
        Metric("rewards/chosen"),
        Metric("rewards/rejected"),
        Metric("logps/chosen"),
        Metric("logps/rejected"),
        Metric("logits/chosen"),
        Metric("logits/rejected"),
        Metric(KL_TERM),
        Metric("entropy"),
        Metric("num_tokens"),
        Metric("aux_loss"),
    ),
    trl_arguments="KTOConfig",
    trl_location="trainer/kto_trainer.py",
    providers=frozenset({"huggingface"}),
    # Twice DPO's: a pair is two labelled answers.
    enough_examples=1000,
    has_reference=True,
    reference_scored_once=True,
    loss_scale=_loss_scale,
    loss_summary=_loss_summary,
    # TRL's default is 1e-6, its documentation gives 5e-7 to 5e-6 for β = 0.1.
    learning_rates=LearningRates(low=1e-7, high=5e-6, lora=5e-6),
    betas=_betas,
    smallest_micro_batch=SMALLEST_MICRO_BATCH,
    disables_dropout=disables_dropout,
    micro_batch_changes_loss=lambda settings: True,
    several_processes=True,
    keeps_data_order=True,
    settings=REFERENCE_SETTINGS
    | {
        "beta",
        "desirable_weight",
        "undesirable_weight",
        "completion_field",
        "rating_threshold",
        "disable_dropout",
        "router_aux_loss_coef",
    },
)
