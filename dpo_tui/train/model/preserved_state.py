"""Forward passes that leave no trace in a model that trains: random numbers, mode, and what a pass keeps."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

# Larger buffers are masks and tables that no forward pass writes to; a copy of them would cost memory.
_LARGEST_BUFFER = 65_536


@contextlib.contextmanager
def preserved_state(model: Any) -> Iterator[None]:
    """Restore what forward passes inside the context change: the next step is the one that it would have been.

    Dynamic NTK keeps the frequencies of the longest row that it has seen, and with them rows are computed otherwise
    until a short one resets them (transformers' ``dynamic_rope_update``); batch norm keeps averages; dropout draws
    random numbers. Parameters are not restored.

    Args:
        model: with or without an adapter.
    """
    before = [(module, _scalars(module), _buffers(module), module.training) for module in model.modules()]
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        for module, scalars, buffers, training in before:
            module.training = training
            module.__dict__.update(scalars)
            for name, (buffer, values) in buffers.items():
                # Copied into the same tensor, whose address a CUDA graph may have.
                if values is not None and not torch.equal(buffer, values):
                    with torch.no_grad():
                        buffer.copy_(values)
                module._buffers[name] = buffer


def _scalars(module: Any) -> dict[str, Any]:
    """Return a module's own numbers and tensors that are neither parameter nor buffer."""
    return {name: value for name, value in vars(module).items() if isinstance(value, int | float | torch.Tensor)}


def _buffers(module: Any) -> dict[str, tuple[torch.Tensor, torch.Tensor | None]]:
    """Return a module's buffers, each with a copy of its values where it is small."""
    return {
        name: (buffer, buffer.clone() if buffer.numel() <= _LARGEST_BUFFER else None)
        for name, buffer in module._buffers.items()
        if buffer is not None
    }
