"""Weight matrices of a model, and the layers that have the same ones."""

from dataclasses import dataclass
from typing import Literal

Form = Literal["linear", "experts", "router"]
Source = Literal["attention input", "attention", "mlp input", "product", "other"]


@dataclass(frozen=True)
class Linear:
    """One weight matrix, or a stack of equal ones: ``rows`` outputs, ``columns`` inputs.

    Attributes:
        name: last part of the module's name, by which ``lora_target_modules`` finds it.
        rows: outputs.
        columns: inputs.
        bias: whether each output has a bias.
        form: "linear" is an ``nn.Linear``, which NF4 packs and LoRA's "all-linear" adapts. "experts" is one parameter
            that holds the matrices of all experts, and "router" a bare matrix: both stay as they are.
        stack: matrices in the stack.
        active: matrices of the stack that one token passes through.
        reads: the tensor that it takes; matrices that read the same one keep it once.
    """

    name: str
    rows: int
    columns: int
    bias: bool = False
    form: Form = "linear"
    stack: int = 1
    active: int = 1
    reads: Source = "other"

    @property
    def weights(self) -> int:
        """Elements of the weight matrices, without biases."""
        return self.rows * self.columns * self.stack

    @property
    def active_weights(self) -> int:
        """Elements that one token is multiplied with."""
        return self.rows * self.columns * self.active

    @property
    def biases(self) -> int:
        """Elements of the biases."""
        return self.rows * self.stack if self.bias else 0


@dataclass(frozen=True)
class LayerPart:
    """Some matrices of a decoder layer, and the number of elements in its norms, convolutions and other tensors."""

    linears: tuple[Linear, ...] = ()
    small: int = 0

    def __add__(self, other: "LayerPart") -> "LayerPart":
        """Both parts together."""
        return LayerPart((*self.linears, *other.linears), self.small + other.small)


@dataclass(frozen=True)
class LayerKind:
    """Decoder layers that are alike.

    Attributes:
        count: how many.
        linears: the matrices of each.
        small: elements of its other tensors, biases left out.
    """

    count: int
    linears: tuple[Linear, ...]
    small: int
