"""What Gemma 3n and Gemma 4 have beside attention and MLP: inputs of every layer, AltUp, LAuReL, experts."""

from dpo_tui.hardware.models.config_values import EXPERTS, HIDDEN, LAYERS, ConfigValues
from dpo_tui.hardware.models.experts import expert_stack
from dpo_tui.hardware.models.matrices import LayerPart, Linear


def gemma_layer_extras(config: ConfigValues) -> LayerPart:
    """Return the further matrices of one layer; none in other families."""
    part = LayerPart()
    if config.model_type not in ("gemma3n_text", "gemma4_text"):
        return part
    hidden, size = config.size(*HIDDEN), layer_input_size(config)
    if size:
        gate = Linear("per_layer_input_gate", size, hidden)
        part = part + LayerPart((gate, Linear("per_layer_projection", hidden, size)), hidden)
    if config.model_type == "gemma3n_text":
        inputs, rank = config.size("altup_num_inputs", default=4), config.size("laurel_rank", default=64)
        linears = (
            Linear("correction_coefs", inputs, inputs),
            Linear("prediction_coefs", inputs * inputs, inputs),
            Linear("modality_router", inputs, hidden),
            Linear("linear_left", rank, hidden),
            Linear("linear_right", hidden, rank),
        )
        part = part + LayerPart(linears, 3 * hidden)
    elif config.has("enable_moe_block"):
        experts = config.size(*EXPERTS)
        router = Linear("proj", experts, hidden, reads="mlp input")
        part = part + LayerPart((router, *expert_stack(config)), 4 * hidden + experts)
    return part


def layer_input_size(config: ConfigValues) -> int:
    """Size of the embedding that every layer gets for itself; 0 without one."""
    return config.count("hidden_size_per_layer_input", default=256)


def layer_input_embedding(config: ConfigValues) -> tuple[int, LayerPart]:
    """Return the elements of the embedding for all layers, and the matrices beside the layers that go with it."""
    if config.model_type not in ("gemma3n_text", "gemma4_text"):
        return 0, LayerPart()
    hidden, size, layers = config.size(*HIDDEN), layer_input_size(config), config.size(*LAYERS)
    part, embedding = LayerPart(), 0
    if size:
        embedding = config.size("vocab_size_per_layer_input", default=262_144) * layers * size
        part = LayerPart((Linear("per_layer_model_projection", layers * size, hidden),), size)
    if config.model_type == "gemma3n_text":
        more = config.size("altup_num_inputs", default=4) - 1
        # Modules of a list: their names are numbers, so that no name in lora_target_modules finds them.
        part = part + LayerPart(tuple(Linear(str(number), hidden, hidden) for number in range(more)) * 2)
    return embedding, part
