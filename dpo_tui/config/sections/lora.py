"""[lora]: the adapter."""

from dpo_tui.config.setting import Section, setting


class LoraSection(Section):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685): train few weights beside the frozen ones."""

    use_lora: bool = setting(True, "train an adapter", "Off trains every weight, which takes far more memory.")
    lora_r: int = setting(16, "rank", "Size of the adapter: 16, 32 or 64.", ge=1, le=1024)
    lora_alpha: int | None = setting(
        None, "alpha", "Strength of the adapter, usually twice the rank. Left out, it is twice the rank.", ge=1, le=4096
    )
    lora_dropout: float = setting(
        0.05,
        "dropout",
        "Keep it low. TRL switches all dropout off for DPO, this one included, unless disable_dropout = false.",
        ge=0,
        lt=1,
    )
    lora_target_modules: list[str] = setting(
        ["all-linear"], "target modules", "Which linear layers get an adapter.", advanced=True, min_length=1
    )
    modules_to_save: list[str] = setting(
        [], "modules trained whole", "Modules trained and saved in full beside the adapter.", advanced=True
    )
    use_rslora: bool = setting(
        False, "rank-stabilised", "Scale by alpha/√rank (arXiv 2312.03732) instead of alpha/rank.", advanced=True
    )
    use_dora: bool = setting(
        False, "DoRA", "Weight-decomposed adapters (arXiv 2402.09353): slower, sometimes better.", advanced=True
    )
    loraplus_lr_ratio: float | None = setting(
        None,
        "LoRA+",
        "How many times faster the adapter's matrices B learn than A (arXiv 2402.12354, PEFT's optimizer): 2 to 16, "
        "with a lower learning_rate. An adapter on embeddings learns at PEFT's 1e-6 then.",
        gt=0,
        le=1000,
        advanced=True,
    )
    merge_at_end: bool = setting(
        False,
        "merge at the end",
        "Also write the whole model, with the adapter merged in. A next stage trains from it, so a chain sets this.",
        advanced=True,
    )
