"""Check of the mixtures of experts that TRL or PEFT cannot train, or only with other settings.

Each was run with trl 1.16, transformers 5.23 and peft 0.21, with plain TRL too, and ended in an AttributeError.
"""

from dpo_tui.config.schema import Config
from dpo_tui.start.model_checks.model_folder import ModelFolder
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.strategies.strategy import DataForm

_NOT_IN_TRL = {"llama4", "llama4_text"}
"""TRL's forward pass expects another kind of output than these give."""
_EXPERTS_NOT_COUNTED = {"phimoe", "granitemoe", "granitemoehybrid", "granitemoeshared"}
"""TRL's load-balancing loss reads ``num_experts``, which the configs of these lack, without experts too."""
_ROUTER_IS_LINEAR = {"phimoe"}
"""The router is a linear layer that returns two values, where PEFT's layer expects one."""


def check_mixture_of_experts(folder: ModelFolder, config: Config) -> list[str]:
    """Check a model's type against what TRL and PEFT can train.

    Raises:
        ConfigError: they cannot train it, or not with these settings.
    """
    types = {str(folder.config.get("model_type")), str(folder.text_config.get("model_type"))}
    if types & _NOT_IN_TRL:
        raise folder.error(
            "TRL cannot train the Llama 4 family: its forward pass does not take the outputs of these models",
            "name a model of another family",
        )
    if types & _EXPERTS_NOT_COUNTED and _load_balancing_rate(folder, config):
        settable = strategy_of(config).data is not DataForm.DEMONSTRATIONS  # whose loss has no such setting
        raise folder.error(
            f"TRL cannot compute the load-balancing loss of {folder.text_config.get('model_type')}",
            "set router_aux_loss_coef = 0"
            if settable
            else 'write "router_aux_loss_coef": 0.0 into a copy of the model\'s config.json',
        )
    targets = config.lora_target_modules if config.use_lora else []
    if types & _ROUTER_IS_LINEAR and {"all-linear", "router"} & set(targets):
        raise folder.error(
            "PEFT cannot adapt the router of phimoe, which all-linear includes",
            'name the layers: lora_target_modules = ["q_proj", "k_proj", "v_proj", "o_proj"]',
        )
    return []


def _load_balancing_rate(folder: ModelFolder, config: Config) -> object:
    """Return the weight of the load-balancing loss, as TRL takes it; where neither names one, the family's is not 0."""
    own = config.router_aux_loss_coef
    return folder.text_config.get("router_aux_loss_coef", True) if own is None else own
