"""Template of a strategy: copy to dpo_tui/strategies/NAME.py and add a row to strategies/registry.py.

The third file is train/trainer/trainer_registry.py: a row with TRL's trainer class and the function that makes its
arguments. Screens, estimate, advice, evaluation and the model card follow from the description.
"""

from dpo_tui.strategies.metric_expectations import PREFERENCE_METRICS, Metric
from dpo_tui.strategies.strategy import DataForm, Strategy

ODDS = Strategy(
    name="odds",
    title="Odds",
    method="preference training by the odds ratio of both answers",
    summary="trains on preference pairs, without a reference",
    data=DataForm.PAIRS,
    sequences_per_example=2,
    metrics=(*PREFERENCE_METRICS, Metric("log_odds_ratio")),
)
