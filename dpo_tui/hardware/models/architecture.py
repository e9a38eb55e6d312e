"""Dimensions and weights of a model: what the estimates of memory and time are made from."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from dpo_tui.hardware.models.family_layouts import ModelLayout
from dpo_tui.hardware.models.matrices import LayerKind, LayerPart, Linear
from dpo_tui.hardware.models.quantised import Quantisation
from dpo_tui.hardware.models.stored_weights import StoredWeights


@dataclass(frozen=True)
class Architecture:
    """Dimensions of a decoder-only language model, and of the vision tower beside it.

    Attributes:
        model_type: of ``config.json``; it chooses the layout.
        hidden: size of the hidden states.
        layers: decoder layers.
        heads: query heads; 0 without attention.
        kv_heads: key and value heads.
        head_dim: size of a head.
        intermediate: inner states of the MLP that one token passes through; with experts, those of the active ones.
        vocabulary: rows of the embedding.
        tied: whether input embedding and LM head are one matrix.
        layout: of a decoder layer.
        kinds: the decoder layers, alike ones together.
        lookup_weights: elements of embeddings (words, positions, inputs of layers) and of the LM head.
        beside: matrices beside the decoder layers, and the elements of norms there.
        tower: the part that sees images or hears; it takes no part in training on text.
        softcap: attention scores are soft-capped, which needs eager attention (Gemma 2).
        source: where the dimensions were read, for messages.
        guess: why the count of weights is a guess, in words; empty where it is exact.
        stored: what the files of the model hold, where they are on this machine.
        quantisation: how the files hold quantised weights; None where they do not.
    """

    model_type: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool
    layout: ModelLayout
    kinds: tuple[LayerKind, ...]
    lookup_weights: int
    beside: LayerPart
    tower: LayerPart = field(default_factory=LayerPart)
    softcap: bool = False
    source: str = ""
    guess: str = ""
    stored: StoredWeights | None = None
    quantisation: Quantisation | None = None

    @property
    def guessed(self) -> bool:
        """Whether the count of weights is a guess."""
        return bool(self.guess)

    @property
    def has_experts(self) -> bool:
        """Whether a token passes through a part of the weights only."""
        return any(linear.form == "experts" for linear, _ in self.matrices())

    @property
    def query_width(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def key_width(self) -> int:
        """Width of all key heads together; values have the same."""
        return self.kv_heads * self.head_dim

    def linears(self) -> tuple[Linear, ...]:
        """The matrices of the decoder layer that keeps most for the backward pass."""
        return max(self.kinds, key=lambda kind: sum(one.columns * one.active for one in kind.linears)).linears

    def matrices(self, *, tower: bool = True) -> Iterator[tuple[Linear, int]]:
        """Yield every matrix of the model but embeddings and LM head, and how often it is there."""
        for kind in self.kinds:
            for linear in kind.linears:
                yield linear, kind.count
        for linear in (*self.beside.linears, *(self.tower.linears if tower else ())):
            yield linear, 1

    @property
    def linear_weights(self) -> int:
        """Elements of all weight matrices but embeddings and LM head."""
        return sum(count * linear.weights for linear, count in self.matrices())

    @property
    def active_weights(self) -> int:
        """Elements of the matrices that one token is multiplied with: of experts, the active ones; no tower."""
        return sum(count * linear.active_weights for linear, count in self.matrices(tower=False))

    @property
    def active_parameters(self) -> int:
        """All weights but those of experts that a token does not pass through, and the tower's."""
        idle = sum(count * (linear.weights - linear.active_weights) for linear, count in self.matrices(tower=False))
        return max(1, self.parameters - idle - self.tower_weights)

    @property
    def tower_weights(self) -> int:
        """Elements of the tower."""
        return self.tower.small + sum(linear.weights + linear.biases for linear in self.tower.linears)

    @property
    def embedding_weights(self) -> int:
        """Elements of the embeddings, and of the LM head where it is not the same matrix."""
        return self.lookup_weights + (self.vocabulary if self.layout.head_bias else 0)

    @property
    def counted_parameters(self) -> int:
        """All weights as config.json and the family's layout have them."""
        small = sum(kind.count * kind.small for kind in self.kinds) + self.beside.small + self.tower.small
        biases = sum(count * linear.biases for linear, count in self.matrices())
        return self.linear_weights + self.embedding_weights + small + biases

    @property
    def small_weights(self) -> int:
        """Elements of norms, biases and convolutions, which NF4 leaves in 16 bit, and of what only the files name."""
        return max(0, self.parameters - self.linear_weights - self.embedding_weights)

    @property
    def parameters(self) -> int:
        """All weights: as the files have them, where those are at hand."""
        if self.stored is not None and self.stored.parameters is not None:
            return self.stored.parameters
        return self.counted_parameters
