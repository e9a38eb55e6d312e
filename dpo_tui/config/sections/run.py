"""[run]: what kind of run it is."""

from typing import Literal

from dpo_tui.config.setting import Section, setting


class RunSection(Section):
    """Strategy, name and who else is told."""

    strategy: Literal["dpo", "sft"] = setting(
        "dpo", "strategy", "dpo trains on preference pairs; sft, stage one, on demonstrations."
    )
    task: Literal["text-generation"] = setting(
        "text-generation", "task", "Text generation is the only task.", advanced=True
    )
    name: str | None = setting(
        None, "name", "What you call the run; made from the model's name when left out.", min_length=1, max_length=64
    )
    report_to: list[Literal["tensorboard", "trackio", "wandb", "mlflow"]] = setting(
        [], "trackers", "Other trackers that receive the metrics too.", advanced=True
    )
