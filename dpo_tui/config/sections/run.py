"""[run]: what kind of run it is."""

from typing import Annotated, Literal

from dpo_tui.config.setting import OneOf, Section, setting
from dpo_tui.strategies import registry


class RunSection(Section):
    """Strategy, name and other trackers."""

    strategy: Annotated[str, OneOf(registry.names)] = setting(
        registry.DEFAULT,
        "strategy",
        "; ".join(f"{one.name} {one.summary}" for one in registry.STRATEGIES.values()) + ".",
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
