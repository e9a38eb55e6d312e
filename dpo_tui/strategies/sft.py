"""Supervised fine-tuning (SFT) on demonstrations, the usual stage before preference training."""

from dpo_tui.strategies.dpo import DPO_SETTINGS, OTHER_REFERENCE
from dpo_tui.strategies.metric_expectations import Metric
from dpo_tui.strategies.strategy import DataForm, Strategy

SFT = Strategy(
    name="sft",
    title="SFT",
    method="supervised fine-tuning",
    summary="trains on demonstrations, before preference training",
    data=DataForm.DEMONSTRATIONS,
    sequences_per_example=1,
    metrics=(Metric("loss", "loss", "down"), Metric("entropy"), Metric("mean_token_accuracy")),
    trl_arguments="SFTConfig",
    # It reads none of them. Configs of both stages have always been written with the same table, and open for ever.
    # Not so a reference that is named: whoever names one means it.
    settings=DPO_SETTINGS - OTHER_REFERENCE | {"completion_only_loss", "assistant_only_loss", "packing"},
    memory_7b_gb=(6.0, 8.0),
    several_processes=True,
)
