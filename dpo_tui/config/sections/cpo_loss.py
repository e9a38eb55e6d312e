"""[cpo]: what only the losses of TRL's CPOTrainer have, CPO and SimPO."""

from dpo_tui.config.setting import Section, setting


class CpoSection(Section):
    """Contrastive Preference Optimization (arXiv 2401.08417) and SimPO (arXiv 2405.14734).

    Both settings have a default in these strategies alone, and none in others.
    """

    cpo_alpha: float | None = setting(
        None,
        "CPO α",
        "For cpo and simpo: weight of the added mean −log-probability of the chosen answer's tokens. Left out, it is "
        "1.0 for cpo and 0 for simpo.",
        advanced=True,
        ge=0,
    )
    simpo_gamma: float | None = setting(
        None,
        "SimPO γ",
        "For simpo: the margin that its loss asks for between both answers. Half of β is where its authors advise to "
        "begin, and 1.0 for the default β; they tried up to β itself.",
        advanced=True,
        ge=0,
    )
