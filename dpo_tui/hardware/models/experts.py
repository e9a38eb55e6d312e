"""The matrices of a layer with a mixture of experts: router, experts in one parameter, shared experts."""

from dpo_tui.hardware.models.config_values import ACTIVE_EXPERTS, EXPERTS, HIDDEN, LAYERS, ConfigValues
from dpo_tui.hardware.models.family_layouts import ModelLayout
from dpo_tui.hardware.models.matrices import LayerPart, Linear


def is_sparse(config: ConfigValues, layer: int) -> bool:
    """Whether a layer has experts, in a model that has them: families leave some layers dense."""
    if config.model_type == "jamba":
        return layer % config.size("expert_layer_period", default=2) == config.count("expert_layer_offset", default=1)
    if config.model_type == "llama4_text":
        listed = config.list_of("moe_layers")
        return layer in listed if listed else not (layer + 1) % config.size("interleave_moe_layer_step", default=1)
    if config.model_type == "gemma4_text":
        return False  # it has experts beside the dense matrices
    if kinds := config.list_of("mlp_layer_types"):
        return layer < len(kinds) and kinds[layer] == "sparse"
    if layer in config.list_of("mlp_only_layers") or layer < config.count("first_k_dense_replace"):
        return False
    return not (layer + 1) % config.size("decoder_sparse_step", default=1)


def expert_part(config: ConfigValues, layout: ModelLayout) -> LayerPart:
    """Return the matrices of a layer with experts, of which a token passes through a few."""
    hidden, experts = config.size(*HIDDEN), config.size(*EXPERTS)
    linears = [
        Linear(
            "router" if layout.router == "linear" else "gate",
            experts,
            hidden,
            layout.router_bias,
            form=layout.router,
            reads="mlp input",
        ),
        *expert_stack(config, layout.expert_bias),
    ]
    shared = shared_width(config)
    if shared:
        linears += [
            Linear("gate_proj", shared, hidden, reads="mlp input"),
            Linear("up_proj", shared, hidden, reads="mlp input"),
            Linear("down_proj", hidden, shared, reads="product"),
        ]
    if config.count("shared_expert_intermediate_size"):
        linears.append(Linear("shared_expert_gate", 1, hidden, reads="mlp input"))
    return LayerPart(tuple(linears))


def expert_stack(config: ConfigValues, bias: bool = False) -> tuple[Linear, Linear]:
    """Return the two parameters that hold the matrices of all experts."""
    hidden, wide, experts = config.size(*HIDDEN), expert_width(config), config.size(*EXPERTS)
    active = min(experts, config.size(*ACTIVE_EXPERTS, default=2))
    up = Linear("gate_up_proj", 2 * wide, hidden, bias, "experts", experts, active, "mlp input")
    return up, Linear("down_proj", hidden, wide, bias, "experts", experts, active, "product")


def expert_width(config: ConfigValues) -> int:
    """Width of one expert's inner states."""
    return config.size("moe_intermediate_size", "intermediate_size")


def shared_width(config: ConfigValues) -> int:
    """Width of the experts that every token passes through, together; 0 without any."""
    if config.model_type == "llama4_text":
        return config.size("intermediate_size")
    if own := config.count("shared_expert_intermediate_size"):
        return own
    return config.count("n_shared_experts") * expert_width(config)


def token_width(config: ConfigValues) -> int:
    """Inner states of a token in the widest layer with experts; 0 where no layer has them."""
    if not config.count(*EXPERTS):
        return 0
    active = min(config.size(*EXPERTS), config.size(*ACTIVE_EXPERTS, default=2))
    sparse = any(is_sparse(config, layer) for layer in range(config.size(*LAYERS)))
    beside = config.model_type == "gemma4_text" and config.has("enable_moe_block")
    return active * expert_width(config) + shared_width(config) if sparse or beside else 0
