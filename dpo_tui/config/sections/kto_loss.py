"""[kto]: the weights of the loss on labelled answers."""

from dpo_tui.config.setting import Section, setting


class KtoSection(Section):
    """Kahneman-Tversky Optimization (Ethayarajh et al. 2024, arXiv 2402.01306)."""

    desirable_weight: float = setting(
        1.0,
        "weight of good",
        "Weight of the loss of desirable answers. TRL advises weight × count of desirable to undesirable answers from "
        "1:1 to 4:3.",
        advanced=True,
        gt=0,
        le=1000,
    )
    undesirable_weight: float = setting(
        1.0,
        "weight of bad",
        "Weight of the loss of undesirable answers; change one of the two weights only.",
        advanced=True,
        gt=0,
        le=1000,
    )
