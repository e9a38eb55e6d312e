"""The matrices that an adapter has, as PEFT makes it, and how many weights are trained."""

from collections.abc import Iterator

from dpo_tui.config.schema import Config
from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.hardware.models.matrices import Linear
from dpo_tui.hardware.models.quantised import quantisation_while_loading

_ALL_LINEAR = "all-linear"
# peft 0.21 (utils/transformers_weight_conversion.py) and transformers 5.23 (conversion_mapping.py): families whose
# experts were modules once. A name of such a module adapts the parameter that holds the matrices of all experts, and
# where gate and up values come from one parameter, with twice the rank.
_LIKE_MIXTRAL = {"mixtral", "minimax", "minimax_m2"}
_LIKE_QWEN2_MOE = {
    "afmoe", "beam", "cohere2_moe", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots1", "ernie4_5_moe", "exaone_moe",
    "flex_olmo", "glm4_moe", "glm4_moe_lite", "glm4v_moe", "glm_moe_dsa", "hunyuan_v1_moe", "longcat_flash", "mellum",
    "olmoe", "qwen3_moe", "qwen3_next", "qwen3_omni_moe", "qwen3_omni_moe_text", "qwen3_omni_moe_thinker", "solar_open",
}  # fmt: skip
_FUSED = 2


def adapted_matrices(config: Config, arch: Architecture, *, tower: bool = True) -> Iterator[tuple[Linear, int, int]]:
    """Yield every matrix that carries an adapter, how often it is there, and the adapter's rank.

    Args:
        config: the run's settings.
        arch: its model.
        tower: whether to include the tower, whose adapters stay without effect on text.
    """
    if not config.use_lora:
        return
    names = {target.rpartition(".")[2] for target in config.lora_target_modules}
    whole = _ALL_LINEAR in config.lora_target_modules
    formerly = _former_names(arch.model_type)
    for linear, count in arch.matrices(tower=tower):
        if linear.form == "linear":
            if linear.name not in formerly and (whole or linear.name in names):
                yield linear, count, config.lora_r
        elif formerly:
            now = {name for name, parameter in formerly.items() if parameter == linear.name}
            if whole or now & names:
                fused = linear.form == "experts" and len(now) == _FUSED
                yield linear, count, config.lora_r * (_FUSED if fused else 1)


def _former_names(model_type: str) -> dict[str, str]:
    """The names of modules that have become parameters, and those parameters."""
    if model_type in _LIKE_MIXTRAL:
        return {"gate": "gate", "w1": "gate_up_proj", "w3": "gate_up_proj", "w2": "down_proj"}
    if model_type in _LIKE_QWEN2_MOE:
        return {"gate": "gate", "gate_proj": "gate_up_proj", "up_proj": "gate_up_proj", "down_proj": "down_proj"}
    return {}


def adapter_weights(config: Config, arch: Architecture, *, tower: bool = True) -> int:
    """How many weights the adapter has, ``modules_to_save`` left out."""
    return sum(
        count * (rank * linear.stack * (linear.rows + linear.columns) + (linear.rows if config.use_dora else 0))
        for linear, count, rank in adapted_matrices(config, arch, tower=tower)
    )


def trained_weights(config: Config, arch: Architecture) -> int:
    """How many weights are trained: the adapter's, or all of them."""
    if not config.use_lora:
        return arch.parameters
    return adapter_weights(config, arch) + _saved_whole(config, arch)


def updated_weights(config: Config, arch: Architecture) -> int:
    """How many weights get gradients: those that are trained but for the tower, which text does not pass through."""
    if not config.use_lora:
        return arch.parameters - arch.tower_weights
    return adapter_weights(config, arch, tower=False) + _saved_whole(config, arch)


def is_vocabulary(name: str) -> bool:
    """Whether an entry of ``modules_to_save`` is the embedding or the LM head."""
    return name.rpartition(".")[2] in ("embed_tokens", "lm_head")


def loads_bitsandbytes(config: Config, arch: Architecture) -> bool:
    """Whether bitsandbytes holds the weights: its own files, or packed while loading."""
    if arch.quantisation is not None:
        return arch.quantisation.method == "bitsandbytes"
    found = quantisation_while_loading(config)
    return found is not None and found.method == "bitsandbytes"


def _saved_whole(config: Config, arch: Architecture) -> int:
    return sum(is_vocabulary(name) for name in config.modules_to_save) * arch.vocabulary * arch.hidden
