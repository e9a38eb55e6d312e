"""Recipes: losses with their settings as named starting points, each with its source.

`config init --recipe NAME` and New → Settings fill them in; whatever else a config sets stays as it is. A new recipe is
one row of :data:`RECIPES`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpo_tui.errors import ConfigError

_ADAPTER_RATE = 5e-6
"""What TRL's own command takes for DPO with LoRA (trl/scripts/dpo.py, 1.16), which a config trains unless it says
otherwise: the schema's default, 5e-7, is what it takes for whole models, and `config check` says so."""
NONE = "none"
"""The choice of no recipe in forms."""


@dataclass(frozen=True)
class Recipe:
    """A starting point.

    Attributes:
        name: for the command line and forms.
        title: in a few words.
        when: what it is for, as the end of a sentence "Take it …".
        source: who published it, or who uses it.
        values: the settings that it fills in, by name.
    """

    name: str
    title: str
    when: str
    source: str
    values: Mapping[str, Any]


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "dpo",
            "plain DPO",
            "when nothing speaks for another one",
            "Rafailov et al. 2023, arXiv 2305.18290; TRL's default of β",
            {"strategy": "dpo", "loss_type": ["sigmoid"], "beta": 0.1, "learning_rate": _ADAPTER_RATE},
        ),
        Recipe(
            "dpo-norm",
            "DPO on means per token, β 5",
            "when the chosen answers are longer than the rejected ones and the model should not grow wordy",
            "Tülu 3 (arXiv 2411.15124) and OLMo 3: dpo_norm with β 5 in their training scripts",
            {"strategy": "dpo", "loss_type": ["sigmoid_norm"], "beta": 5.0, "learning_rate": _ADAPTER_RATE},
        ),
        Recipe(
            "apo-zero",
            "APO-zero",
            "when the chosen answers are better than what the model says now",
            "D'Oosterlinck et al. 2024, arXiv 2408.06266; TRL's default of β; SmolLM3, with β 0.05",
            {"strategy": "dpo", "loss_type": ["apo_zero"], "beta": 0.1, "learning_rate": _ADAPTER_RATE},
        ),
        Recipe(
            "ipo",
            "IPO",
            "when DPO over-fits: its loss wants a margin of a certain size and not the largest",
            "Azar et al. 2023, arXiv 2310.12036",
            {"strategy": "dpo", "loss_type": ["ipo"], "beta": 0.1, "learning_rate": _ADAPTER_RATE},
        ),
        Recipe(
            "dpo-sft",
            "DPO with a fifth of the SFT loss",
            "when the chosen answers lose probability while the margin grows",
            "Llama 3 (arXiv 2407.21783), which adds the loss of the chosen answers with 0.2",
            {
                "strategy": "dpo",
                "loss_type": ["sigmoid", "sft"],
                "loss_weights": [1.0, 0.2],
                "beta": 0.1,
                "learning_rate": _ADAPTER_RATE,
            },
        ),
        Recipe(
            "conservative",
            "DPO for noisy labels",
            "when about one pair in ten may be the wrong way round",
            "Chowdhury et al. 2024, arXiv 2403.00409; 0.1 is what TRL's documentation names as theirs",
            {
                "strategy": "dpo",
                "loss_type": ["robust"],
                "label_smoothing": 0.1,
                "beta": 0.1,
                "learning_rate": _ADAPTER_RATE,
            },
        ),
        Recipe(
            "simpo",
            "SimPO",
            "when memory is short: there is no reference; and where answers should not grow longer",
            "Meng et al. 2024, arXiv 2405.14734; β and γ of their Llama 3 8B from a base model",
            {"strategy": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0, "learning_rate": _ADAPTER_RATE},
        ),
        Recipe(
            "cpo",
            "CPO",
            "when the chosen answers are better than the model's own, and it should learn to write them; no reference",
            "Xu et al. 2024, arXiv 2401.08417; β and rate of their training script, for an adapter and one epoch",
            {"strategy": "cpo", "beta": 0.1, "cpo_alpha": 1.0, "learning_rate": 1e-4},
        ),
        Recipe(
            "orpo",
            "ORPO",
            "for a base model without a stage of fine-tuning before it, or when memory is short",
            "Hong et al. 2024, arXiv 2403.07691; TRL's example has this rate for whole models, 8e-5 for adapters",
            {"strategy": "orpo", "beta": 0.1, "learning_rate": 8e-6},
        ),
        Recipe(
            "kto",
            "KTO",
            "when each answer has a thumb of its own, or a rating, and there are no pairs",
            "Ethayarajh et al. 2024, arXiv 2402.01306; TRL's defaults of β and weights",
            {
                "strategy": "kto",
                "beta": 0.1,
                "desirable_weight": 1.0,
                "undesirable_weight": 1.0,
                "learning_rate": _ADAPTER_RATE,
            },
        ),
    )
}
"""By name, in the order in which lists show them."""


def recipe_of(name: str) -> Recipe:
    """Return a recipe.

    Raises:
        ConfigError: there is none of that name.
    """
    try:
        return RECIPES[name]
    except KeyError:
        raise ConfigError(f"no recipe {name!r}", hint=f"there are: {', '.join(RECIPES)}") from None
