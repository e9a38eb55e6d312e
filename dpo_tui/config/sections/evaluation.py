"""[eval]: is it getting better?"""

from typing import Literal

from pydantic import field_validator

from dpo_tui.config.sections.data import one_is_no_list
from dpo_tui.config.setting import Section, setting
from dpo_tui.text.location_list import as_text


class EvalSection(Section):
    """The held-out pairs and the answers that are sampled on the way."""

    eval_split: float = setting(
        0.1,
        "held out",
        "Part of the pairs kept for evaluation, split by prompt so that none is seen in both.",
        ge=0,
        lt=1,
    )
    eval_dataset: str | tuple[str, ...] | None = setting(
        None,
        "evaluation data",
        "Pairs to evaluate on, instead of a part of the dataset: whatever dataset takes, or a list of these.",
        advanced=True,
    )
    eval_dataset_config: str | None = setting(
        None,
        "evaluation subset",
        "Subset of the evaluation data on the hub. Without eval_dataset, of the dataset itself.",
        advanced=True,
    )
    eval_dataset_split: str | None = setting(
        None,
        "evaluation split",
        "Split of the evaluation data; without eval_dataset, of the dataset itself. Left out: test or validation, if "
        "there is one.",
        advanced=True,
    )
    eval_strategy: Literal["steps", "epoch"] = setting(
        "steps",
        "evaluate by",
        "steps evaluates every eval_steps; epoch at the end of each epoch. Both evaluate before the first step and "
        "after the last.",
        advanced=True,
    )
    eval_steps: int | None = setting(
        None,
        "evaluate every",
        "Steps between two evaluations. Left out: five times a run, and at the end.",
        unit="steps",
        advanced=True,
        ge=1,
    )
    per_device_eval_batch_size: int | None = setting(
        None,
        "evaluation batch",
        "Pairs in one forward pass; as in training when left out.",
        unit="pairs",
        advanced=True,
        ge=1,
    )
    sample_prompts: int = setting(
        3,
        "sampled prompts",
        "Held-out prompts that are answered before training, at each evaluation and after.",
        advanced=True,
        ge=0,
        le=1000,
    )
    sample_max_new_tokens: int = setting(
        96, "answer length", "Longest sampled answer.", unit="tokens", advanced=True, ge=1, le=8192
    )
    kl_prompts: int = setting(
        16,
        "KL prompts",
        "Held-out prompts to which the policy samples an answer at each evaluation, to estimate KL to the reference. "
        "0 leaves the estimate out.",
        advanced=True,
        ge=0,
        le=1000,
    )
    kl_max_new_tokens: int = setting(
        64, "KL answer length", "Longest answer of that estimate.", unit="tokens", advanced=True, ge=1, le=8192
    )
    kl_stop: float | None = setting(
        None,
        "stop at KL",
        "End the training early when the KL estimate is above this; below 10 is reasonable. The model is saved as at "
        "any end.",
        unit="nats an answer",
        advanced=True,
        gt=0,
    )
    load_best: Literal["none", "loss", "accuracy", "margin"] = setting(
        "none",
        "keep the best by",
        "The result is the checkpoint with the best held-out loss, accuracy or margin, and not that of the last step. "
        "An evaluation that is better than all before it saves a checkpoint, which stays besides save_total_limit.",
        advanced=True,
    )
    early_stopping_patience: int | None = setting(
        None,
        "patience",
        "End the training after this many evaluations in a row without a better one, by what load_best names.",
        unit="evaluations",
        advanced=True,
        ge=1,
    )
    looks_share: float = setting(
        0.05,
        "time for looks",
        "Part of the training time that KL estimates and sampled answers may take at the evaluations. Where they are "
        "dearer they use fewer prompts or are left out, and the run says so; 1 is no limit.",
        advanced=True,
        gt=0,
        le=1,
    )

    @property
    def has_evaluation_data(self) -> bool:
        """Whether separate data, or another split or subset of the dataset, is evaluated on."""
        return bool(self.eval_dataset or self.eval_dataset_config or self.eval_dataset_split)

    @property
    def eval_datasets(self) -> tuple[str, ...]:
        """The evaluation datasets, none, one or several."""
        if self.eval_dataset is None:
            return ()
        return (self.eval_dataset,) if isinstance(self.eval_dataset, str) else self.eval_dataset

    @property
    def eval_dataset_text(self) -> str:
        """The evaluation datasets as one text for people; empty without any."""
        return as_text(self.eval_datasets)

    @field_validator("eval_dataset")
    @classmethod
    def _one_evaluation_set_is_no_list(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        return None if value is None else one_is_no_list(value)
