"""Whether a model draws random numbers in training mode, so that fewer tokens or passes would have other ones.

Scores alone do not say so. A mixture of experts may draw an expert only where two are nearly as good (PhiMoE's sparse
mixer), which none of a short batch's tokens need hit, and may add noise too small to see. So the draws themselves are
looked for, beside the difference that they make.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dpo_tui.train.model.preserved_state import preserved_state
from dpo_tui.train.shortcuts.equivalence_check import NOISE_FACTOR, largest_difference
from dpo_tui.train.shortcuts.prefix_sharing import REFUSALS, refusal_of

# Two passes over one layout round alike, so that little more than nothing is random.
_RANDOM = 1e-5


def random_in_training(model: Any, logps: Callable[[], torch.Tensor]) -> str | None:
    """Say what is random in a pass in training mode, as a clause; None where nothing is.

    Draws of single numbers that change no score are not counted: many decoders draw one a layer to decide whether to
    leave the layer out (LayerDrop), also at a rate of 0, and it is the same whatever the number of tokens.

    Args:
        model: of which the passes are; its mode, random numbers and state are restored.
        logps: makes a pass.
    """

    def seeded(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return logps()

    with preserved_state(model):
        model.train()
        # The state of the generators says that something was drawn, the scores that it matters, and the watch over the
        # operations, which is slow, how many numbers there were: it runs only where something was drawn.
        first = seeded(0)
        device = first.device
        drawn = _moved(device, seeded_at=0)
        difference = largest_difference(first, seeded(1))
        # A kernel that adds in any order differs from itself, but as much with the same random numbers.
        if difference > _RANDOM and difference > NOISE_FACTOR * largest_difference(first, seeded(0)):
            return f"two passes over one batch in training mode differ by {difference:.2g} a token"
        if drawn and (operation := _drawn_for_tokens(device, logps)):
            return f"{operation} draws random numbers for tokens in training mode"
    return None


def _moved(device: torch.device, *, seeded_at: int) -> bool:
    """Whether random numbers were drawn since a seed was set."""
    after = list(_states(device))
    torch.manual_seed(seeded_at)
    return not all(map(torch.equal, after, _states(device)))


def _drawn_for_tokens(device: torch.device, logps: Callable[[], torch.Tensor]) -> str:
    """Return the operation that draws more than one number in a pass; empty where none does."""
    watch = _DrawWatch(device)
    try:
        with watch:
            logps()
    except REFUSALS as error:
        if refusal_of(error) is None:
            raise
        return "an operation that is not known"  # not every kernel runs while operations are watched
    return watch.operation


class _DrawWatch(TorchDispatchMode):  # type: ignore[misc]
    """Watches the operations of a pass for one that draws more than one random number.

    Attributes:
        operation: its name; empty before one is found.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.operation = ""
        self._device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Operations that may draw have the tag; fused attention has it too, and draws nothing without dropout.
        if self.operation or torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **(kwargs or {}))
        before = list(_states(self._device))
        result = func(*args, **(kwargs or {}))
        several = any(isinstance(one, torch.Tensor) and one.numel() > 1 for one in _flat(result))
        if several and not all(map(torch.equal, before, _states(self._device))):
            self.operation = func.overloadpacket.__name__
        return result


def _flat(result: Any) -> Iterator[Any]:
    yield from result if isinstance(result, tuple | list) else (result,)


def _states(device: torch.device) -> Iterator[torch.Tensor]:
    """Yield copies of the states of the generators that a model on a device may draw from."""
    yield torch.get_rng_state()
    if device.type == "cuda":
        yield torch.cuda.get_rng_state(device)
