"""Direct Preference Optimization (Rafailov et al. 2023, arXiv 2305.18290), in every loss of TRL's DPOTrainer."""

from dpo_tui.strategies.dpo_losses import DPO_LOSSES, betas_of, loss_scale, losses_of
from dpo_tui.strategies.metric_expectations import PREFERENCE_METRICS, Metric
from dpo_tui.strategies.strategy import DataForm, LearningRates, Settings, Strategy, disables_dropout


def _loss_summary(settings: Settings) -> str:
    return f"β {settings.get('beta', 0.1):g} · loss {', '.join(losses_of(settings))}"


def _micro_batch_changes_loss(settings: Settings) -> bool:
    return any(name in DPO_LOSSES and DPO_LOSSES[name].sorts_micro_batch for name in losses_of(settings))


def _compares_means(settings: Settings) -> bool:
    return any(name in DPO_LOSSES and DPO_LOSSES[name].compares_means for name in losses_of(settings))


def _lowers_chosen(settings: Settings) -> bool:
    return any(name in DPO_LOSSES and DPO_LOSSES[name].lowers_chosen for name in losses_of(settings))


OTHER_REFERENCE = frozenset({"ref_model", "ref_model_revision", "ref_adapter"})
"""The settings that name a reference other than the model that training starts from."""
REFERENCE_SETTINGS = OTHER_REFERENCE | frozenset(
    {
        "precompute_ref_log_probs",
        "precompute_ref_batch_size",
        "sync_ref_model",
        "ref_model_mixup_alpha",
        "ref_model_sync_steps",
        "kl_stop",
    }
)
"""The settings of a reference, and the limit of an estimate that needs one."""
DPO_SETTINGS = REFERENCE_SETTINGS | {
    "beta",
    "loss_type",
    "loss_weights",
    "label_smoothing",
    "f_divergence_type",
    "f_alpha_divergence_coef",
    "ld_alpha",
    "use_weighting",
    "discopop_tau",
    "disable_dropout",
    "router_aux_loss_coef",
    "truncation_mode",
}
"""The settings of loss and reference that DPOTrainer reads."""

DPO = Strategy(
    name="dpo",
    title="DPO",
    method="Direct Preference Optimization",
    summary="trains on preference pairs",
    data=DataForm.PAIRS,
    sequences_per_example=2,
    metrics=(*PREFERENCE_METRICS, Metric("entropy"), Metric("mean_token_accuracy")),
    settings=DPO_SETTINGS,
    enough_examples=500,
    has_reference=True,
    reference_scored_once=True,
    loss_scale=loss_scale,
    loss_summary=_loss_summary,
    # The usual range of full fine-tuning; TRL's documentation gives about 5e-6 for LoRA.
    learning_rates=LearningRates(low=1e-7, high=1e-6, lora=5e-6),
    betas=betas_of,
    compares_means=_compares_means,
    lowers_chosen=_lowers_chosen,
    memory_7b_gb=(8.0, 10.0),
    disables_dropout=disables_dropout,
    micro_batch_changes_loss=_micro_batch_changes_loss,
    several_processes=True,
)
