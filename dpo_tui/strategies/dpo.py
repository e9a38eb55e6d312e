"""Direct Preference Optimization (Rafailov et al. 2023, arXiv 2305.18290), in every loss of TRL's DPOTrainer."""

from dpo_tui.strategies.metric_expectations import LN2, PREFERENCE_METRICS, Metric
from dpo_tui.strategies.strategy import DataForm, LearningRates, Settings, Strategy

_BATCH_LOSSES = frozenset({"aot", "aot_unpaired"})
"""Losses that sort the log-ratios within a micro-batch (trl 1.16, DPOTrainer._compute_loss)."""


def _losses(settings: Settings) -> list[str]:
    return list(settings.get("loss_type", ["sigmoid"]))


def _start_loss(settings: Settings) -> float | None:
    """−log σ(0) with the sigmoid loss, independent of β: at the start policy and reference are the same model."""
    return LN2 if _losses(settings) == ["sigmoid"] else None


def _loss_summary(settings: Settings) -> str:
    return f"β {settings.get('beta', 0.1):g} · loss {', '.join(_losses(settings))}"


def _disables_dropout(settings: Settings) -> bool:
    return bool(settings.get("disable_dropout", True))


def _micro_batch_changes_loss(settings: Settings) -> bool:
    return not _BATCH_LOSSES.isdisjoint(_losses(settings))


DPO = Strategy(
    name="dpo",
    title="DPO",
    method="Direct Preference Optimization",
    summary="trains on preference pairs",
    data=DataForm.PAIRS,
    sequences_per_example=2,
    metrics=(*PREFERENCE_METRICS, Metric("entropy"), Metric("mean_token_accuracy")),
    enough_examples=500,
    has_reference=True,
    reference_scored_once=True,
    start_loss=_start_loss,
    loss_summary=_loss_summary,
    # The usual range of full fine-tuning; TRL's documentation gives about 5e-6 for LoRA.
    learning_rates=LearningRates(low=1e-7, high=1e-6, lora=5e-6),
    # Below 0.01 the reference hardly holds the policy; above 2.0 the policy hardly moves.
    betas=(0.01, 2.0),
    memory_7b_gb=(8.0, 10.0),
    disables_dropout=_disables_dropout,
    micro_batch_changes_loss=_micro_batch_changes_loss,
)
