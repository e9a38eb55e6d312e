"""Odds Ratio Preference Optimization (Hong et al. 2024, arXiv 2403.07691): fine-tuning and preferences in one loss.

loss = mean −log π(token) over prompt and chosen answer + λ · −log σ(log-odds of chosen − log-odds of rejected), where
the odds are p / (1 − p) of the mean log-probability per token (trl 1.16, ORPOTrainer; λ is ``beta`` there). The first
part is the whole of a model's uncertainty, so that no value is known at which the loss starts.
"""

from dpo_tui.strategies.metric_expectations import PREFERENCE_METRICS, Metric
from dpo_tui.strategies.strategy import Betas, DataForm, LearningRates, Strategy, disables_dropout

REFERENCE_FREE_SETTINGS = frozenset({"beta", "disable_dropout", "router_aux_loss_coef", "truncation_mode"})
"""The settings of the loss that every trainer without a reference reads."""
REFERENCE_FREE_METRICS = (*PREFERENCE_METRICS, Metric("nll_loss"), Metric("entropy"), Metric("mean_token_accuracy"))
"""Logged by every trainer without a reference."""

_LAMBDAS = Betas(
    0.01,
    1.0,
    0.1,
    "0.1 is usual, and the paper goes up to 1.0",
    too_low="hardly weighs the preferences against the fine-tuning",
    too_high="hardly weighs the fine-tuning against the preferences",
)
"""The paper's λ: 0.1 for its released models, 0.1 to 1.0 in its comparison."""


ORPO = Strategy(
    name="orpo",
    title="ORPO",
    method="Odds Ratio Preference Optimization",
    summary="trains on preference pairs and fine-tunes on the chosen answers at once, without a reference",
    data=DataForm.PAIRS,
    sequences_per_example=2,
    metrics=(*REFERENCE_FREE_METRICS, Metric("log_odds_ratio"), Metric("log_odds_chosen")),
    trl_arguments="ORPOConfig",
    trl_location="experimental/orpo",
    settings=REFERENCE_FREE_SETTINGS,
    defaults={"beta": 0.1},
    smoothed_losses=frozenset(),
    providers=frozenset({"huggingface"}),
    enough_examples=500,
    loss_summary=lambda settings: f"λ {settings.get('beta', 0.1):g}",
    # TRL's example script: 8e-6 for whole models, 8e-5 for an adapter.
    learning_rates=LearningRates(low=5e-7, high=8e-6, lora=8e-5),
    betas=lambda settings: _LAMBDAS,
    disables_dropout=disables_dropout,
    # The mean over the tokens of a micro-batch: a longer answer weighs more beside shorter ones.
    micro_batch_changes_loss=lambda settings: True,
    several_processes=True,
)
