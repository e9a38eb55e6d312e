"""[dpo]: the loss and the reference."""

from typing import Any, Literal

from pydantic import field_validator

from dpo_tui.config.setting import Section, setting

# The losses of trl 1.14–1.16 (DPOConfig.loss_type).
Loss = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]


class DpoSection(Section):
    """Direct Preference Optimization (Rafailov et al. 2023, arXiv 2305.18290)."""

    beta: float = setting(
        0.1,
        "β",
        "How strongly the policy is held to the reference: higher β means less deviation from it (TRL's default is "
        "0.1). As a preference signal, 0.1 counts as weak, 0.5 as balanced, 2.0 as strong. Other strategies have other "
        "defaults: 2.0 for simpo, whose β scales means per token; for orpo it is λ, the weight of the preferences.",
        gt=0,
        le=1000,
    )
    loss_type: list[Loss] = setting(
        ["sigmoid"], "loss", "sigmoid is DPO. Several losses are added up by loss_weights.", advanced=True, min_length=1
    )
    loss_weights: list[float] | None = setting(
        None, "loss weights", "One weight for each loss; all 1.0 when left out.", advanced=True
    )
    label_smoothing: float = setting(
        0.0,
        "label smoothing",
        "Chance that a label is flipped, for the losses robust, exo_pair, aot and aot_unpaired.",
        advanced=True,
        ge=0,
        lt=0.5,
    )
    f_divergence_type: Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] = setting(
        "reverse_kl", "divergence", "Which divergence holds policy and reference together.", advanced=True
    )
    f_alpha_divergence_coef: float = setting(0.5, "divergence α", "α of alpha_divergence.", advanced=True)
    ld_alpha: float | None = setting(
        None,
        "length α",
        "LD-DPO's weight of the tokens beyond the shorter answer's length; 1.0 changes nothing.",
        advanced=True,
        ge=0,
        le=1,
    )
    use_weighting: bool = setting(
        False, "WPO weighting", "Weigh pairs by how likely the policy finds them (arXiv 2406.11827).", advanced=True
    )
    discopop_tau: float = setting(0.05, "DiscoPOP τ", "Temperature of the loss discopop.", advanced=True, gt=0)
    disable_dropout: bool = setting(
        True, "dropout off", "TRL's default: policy and reference agree exactly at the first step.", advanced=True
    )
    precompute_ref_log_probs: Literal["auto", "on", "off"] = setting(
        "auto",
        "reference once",
        "Score every pair with the reference before training instead of in every step; the scores are kept for the "
        "next run. auto does so where it means fewer scores in all. true and false are understood too.",
        advanced=True,
    )
    precompute_ref_batch_size: int | None = setting(
        None, "reference batch", "Pairs in one forward pass of that scoring.", unit="pairs", advanced=True, ge=1
    )
    ref_model: str | None = setting(
        None,
        "reference model",
        "A reference other than the model that training starts from: a hub id, a folder, run:ID, or the folder of an "
        "adapter, which is merged into its base first. It must have the tokens of model_name. Left out, the reference "
        "is the start, frozen.",
        advanced=True,
        min_length=1,
    )
    ref_model_revision: str | None = setting(
        None, "reference revision", "Branch, tag or commit of the reference on the hub.", advanced=True
    )
    ref_adapter: str | None = setting(
        None,
        "reference adapter",
        "The folder of a LoRA adapter, or run:ID of a run that trained one: the reference is its base with it merged "
        "in. Instead of ref_model.",
        advanced=True,
        min_length=1,
    )
    sync_ref_model: bool = setting(
        False, "move the reference", "TR-DPO: pull the reference towards the policy now and then.", advanced=True
    )
    ref_model_mixup_alpha: float = setting(
        0.6, "TR-DPO α", "Share of the policy in the new reference.", advanced=True, gt=0, le=1
    )
    ref_model_sync_steps: int = setting(
        512, "TR-DPO steps", "Steps between two moves of the reference.", unit="steps", advanced=True, ge=1
    )
    router_aux_loss_coef: float | None = setting(
        None, "router loss", "Weight of a mixture-of-experts model's load-balancing loss.", advanced=True, ge=0
    )

    @field_validator("precompute_ref_log_probs", mode="before")
    @classmethod
    def _switch(cls, value: Any) -> Any:
        # TRL has a switch here, and so have files written for it.
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value
