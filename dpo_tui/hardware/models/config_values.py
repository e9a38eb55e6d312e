"""Values of a model's ``config.json``, by the names that the families give them, with errors in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpo_tui.errors import ConfigError

HIDDEN = ("hidden_size", "n_embd", "d_model", "n_embed")
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")
INTERMEDIATE = ("intermediate_size", "n_inner", "ffn_hidden_size", "ffn_dim", "block_ff_dim")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
MOST_LAYERS = 1_000
LARGEST_SIZE = 100_000_000
"""Numbers that no model comes near: a damaged or hostile file would have every layer counted for hours."""
ACTIVE_EXPERTS = ("num_experts_per_tok", "top_k_experts", "moe_top_k", "num_experts_per_token")


@dataclass(frozen=True)
class ConfigValues:
    """The content of a ``config.json``.

    Attributes:
        values: the parsed file; for a wrapper, the part that describes its language model.
        source: where it came from, for messages.
    """

    values: Mapping[str, Any]
    source: str

    @property
    def model_type(self) -> str:
        """The family, by transformers' name."""
        return str(self.values.get("model_type", "unknown"))

    def size(self, *names: str, default: int | None = None) -> int:
        """Return a positive integer under the first of some names.

        Raises:
            ConfigError: it is missing and has no default, is no positive integer, or larger than any model's.
        """
        name, value = next(
            ((name, self.values[name]) for name in names if self.values.get(name) is not None), (names[0], default)
        )
        most = MOST_LAYERS if names == LAYERS else LARGEST_SIZE
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
            raise ConfigError(
                f"{self.source}: no usable {name} in the model's config.json (model type {self.model_type!r})",
                hint="the estimate needs a decoder-only language model's config.json",
            )
        return value

    def count(self, *names: str, default: int = 0) -> int:
        """Return a number that may be zero or missing."""
        value = next((self.values[name] for name in names if self.values.get(name) is not None), default)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0

    def has(self, name: str, default: bool = False) -> bool:
        """Return whether a switch is on."""
        value = self.values.get(name)
        return default if value is None else bool(value)

    def list_of(self, name: str) -> list[Any]:
        """Return a list; empty where there is none."""
        value = self.values.get(name)
        return list(value) if isinstance(value, list | tuple) else []

    def layer_type(self, layer: int) -> str:
        """Return what ``layer_types`` calls a layer; empty where the file has no such list."""
        types = self.list_of("layer_types")
        if layer < len(types):
            return str(types[layer])
        if self.model_type == "gemma4_text":
            last = self.size(*LAYERS) - 1
            return "sliding_attention" if (layer + 1) % 6 and layer != last else "full_attention"
        return ""

    def of_layer(self, layer: int, name: str) -> int:
        """Return a number that one layer has for itself (``per_layer_config``); 0 where it has none."""
        every = self.values.get("per_layer_config")
        if not isinstance(every, Mapping):
            return 0
        own = every.get(str(layer), every.get(layer))
        return ConfigValues(own, self.source).count(name) if isinstance(own, Mapping) else 0
