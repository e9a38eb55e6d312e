"""Whether what a run has saved is alive: read again from its files, it differs from the start and holds no NaN.

A save can go wrong in silence. The file then holds an adapter whose B is still zero, weights that bfloat16 has rounded
back to those of the base model after every step, or NaN. Norms are computed in fp32. Of a whole model three blocks of
each tensor are read, and all of it only where these show no change.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dpo_tui.errors import TrainingError
from dpo_tui.text.plain_documents import parse_json
from dpo_tui.train.export.stored_tensors import ADAPTER_FILE, StoredTensors, blocks

_PREFIX = "base_model.model."
_LORA = (("lora_B.weight", "lora_A.weight"), ("lora_embedding_B", "lora_embedding_A"))
_MAGNITUDE = "lora_magnitude_vector"
_ZERO_AT_START = (True, "gaussian", "orthogonal", "eva")
"""Values of ``init_lora_weights`` with which B·A is zero before the first step."""
_HALF = (torch.bfloat16, torch.float16)
_STARTS = (torch.float32, *_HALF)
"""Dtypes in which a run may have held the base model."""
_FEW_CHANGED = 0.1
"""Share of changed weights under which 16 bits are said to round updates away; Adam moves nearly all in fp32."""
_COINCIDENCE = 0.01
"""Share of the elements by which the unchanged ones of two possible starts may differ by chance, with room to spare."""
_MOST_SAMPLED = 1024
"""Tensors of a whole model that are sampled; a large mixture of experts has more than ten thousand."""
_SHOWN = 3


@dataclass(frozen=True)
class ChangedPart:
    """A part of what was trained, compared with the start.

    Attributes:
        what: it is, in words.
        norm: of its change, in fp32; of whole weights that of the elements that were compared.
        share: of the compared elements that have changed; None for LoRA matrices, which have nothing to compare with.
        half: whether it is stored in 16 bits.
    """

    what: str
    norm: float
    share: float | None = None
    half: bool = False


@dataclass(frozen=True)
class Liveness:
    """What the files of an adapter or a model hold.

    Attributes:
        not_finite: names of tensors with NaN or infinity.
        parts: those that could be compared with the start.
        not_compared: why a part could not be compared; empty where all were.
    """

    not_finite: tuple[str, ...]
    parts: tuple[ChangedPart, ...]
    not_compared: str = ""

    def problem(self, *, trained: bool = True) -> str:
        """Return what is wrong, as the rest of a sentence; empty where it is alive.

        Args:
            trained: whether a step with a learning rate above zero was taken; only then something must have changed.
        """
        if self.not_finite:
            shown = ", ".join(self.not_finite[:_SHOWN]) + (", …" if len(self.not_finite) > _SHOWN else "")
            return f"{len(self.not_finite)} of its tensors hold NaN or infinity ({shown})"
        # One part that has changed is enough: of an adapter and a head trained beside it, either may rightly stay (a
        # rate of its own, rows without effect). What stays is a doubt.
        if not trained or not self.parts or any(part.norm for part in self.parts):
            return ""
        if any(part.half and part.share is not None for part in self.parts):
            return "every weight is still that of the start: in 16 bits, updates of this size round to nothing"
        what = " and ".join(part.what for part in self.parts)
        return f"nothing has changed since the start, though the learning rate was above zero ({what})"

    def doubts(self, *, trained: bool = True) -> list[str]:
        """Return sentences on what is alive as a whole and wrong in a part."""
        if not trained or self.problem():
            return []
        found = [f"{part.what} are still those of the start" for part in self.parts if not part.norm]
        found += [
            f"only {part.share:.1%} of {part.what} have changed: 16 bits round most updates of this size to nothing"
            for part in self.parts
            if part.norm and part.half and part.share is not None and part.share < _FEW_CHANGED
        ]
        return [*found, *([self.not_compared] if self.not_compared else [])]

    def sentence(self) -> str:
        """Return what was found, for people."""
        parts = [
            f"{part.what} have changed by a norm of {part.norm:.3g}"
            + (f" ({part.share:.1%} of those compared)" if part.share is not None else "")
            for part in self.parts
        ]
        return "; ".join([*parts, *([self.not_compared] if self.not_compared else []), "no NaN"])


def liveness_of(folder: Path, base: Path | None, *, whole: bool = False) -> Liveness:
    """Read an adapter or a model again and compare it with the start.

    Args:
        folder: a result or a checkpoint.
        base: folder of the model that was trained; None where it is not on this machine.
        whole: whether to read all of a whole model, and not three blocks of each tensor.

    Raises:
        TrainingError: a file is missing or damaged.
    """
    if (folder / ADAPTER_FILE).is_file():
        return _adapter(StoredTensors(folder), _settings(folder), base)
    return _model(StoredTensors(folder), base, whole=whole)


def _adapter(stored: StoredTensors, settings: dict[str, object], base: Path | None) -> Liveness:
    not_finite = []
    products = {}
    for name in stored.names:
        tensor = stored.read(name)
        if not _finite(tensor):
            not_finite.append(name)
        for ending, other in _LORA:
            first = f"{name.removesuffix(ending)}{other}"
            # A matrix without the other is for loading to refuse.
            if name.endswith(ending) and first in stored.names:
                products[name.removesuffix(f".{ending}")] = product_norm(tensor, stored.read(first))
    # The change of a layer is s·B·A; of several layers together the norm is the root of the sum of squares, as of one
    # tensor made of all of them. Only whether it is zero decides anything.
    scale = _scale(settings)
    norm = scale * math.hypot(*products.values())
    parts = []
    reasons = []
    start = _start(base) if _needs_base(stored, norm) else None
    if products and settings.get("init_lora_weights", True) in _ZERO_AT_START:
        if not norm and start is not None:
            norm = _magnitude_norm(stored, start)
        parts.append(ChangedPart(f"the LoRA matrices of {len(products)} layers", norm))
    elif products:
        reasons.append(f"init_lora_weights = {settings['init_lora_weights']}: LoRA matrices that do not start at zero")
    whole = [name for name in stored.names if "lora_" not in name and not name.endswith("base_layer.weight")]
    if whole:
        names = ", ".join(sorted({name.split(".")[-2] for name in whole}))
        found = _compared(stored, whole, start, whole=False) if start is not None else None
        if found is None:
            reasons.append(f"{names}, trained whole, could not be compared with the base model")
        else:
            parts.append(ChangedPart(f"the weights of {names}, trained whole,", *found))
    return Liveness(tuple(not_finite), tuple(parts), "; ".join(reasons))


def _model(stored: StoredTensors, base: Path | None, *, whole: bool) -> Liveness:
    # Names are in the order of the file, so that every n-th of them takes some from all layers.
    every = 1 if whole else math.ceil(len(stored.names) / _MOST_SAMPLED)
    names = stored.names[::every]
    not_finite = tuple(
        name
        for name in names
        if not all(_finite(stored.read(name, block)) for block in blocks(stored.shape(name), whole=whole))
    )
    start = _start(base)
    found = None if start is None else _compared(stored, names, start, whole=whole)
    if found is None:
        return Liveness(not_finite, (), "its weights could not be compared with those of the base model")
    return Liveness(not_finite, (ChangedPart("the weights", *found),))


def _compared(
    stored: StoredTensors, names: Sequence[str], start: StoredTensors, *, whole: bool
) -> tuple[float, float, bool] | None:
    """Return the norm of the change, the share of elements that changed, and whether they are stored in 16 bits.

    None where the base model holds none of the tensors under its name and in its shape.
    """
    pairs = [(name, other) for name in names if (other := _start_name(stored, name, start)) is not None]
    if not pairs:
        return None
    sampled = [_Change() for _ in _STARTS]
    half = False
    for now, before in _blocks_of(stored, start, pairs, whole=False):
        half = now.dtype in _HALF
        # The dtype in which the run held the base is not in the files. From fp32 weights that were rounded to bf16
        # before the first step, every element would seem to have changed.
        for dtype, change in zip(_STARTS, sampled, strict=True):
            change.add(now, before, dtype)
    number = _nearest(sampled)
    nearest, dtype = sampled[number], _STARTS[number]
    if whole or not nearest.changed:
        # That nothing has changed is said only after all of it was read.
        nearest = _Change()
        everything = stored.names if whole else [*names, *(name for name in stored.names if name not in names)]
        pairs = [(name, other) for name in everything if (other := _start_name(stored, name, start)) is not None]
        for now, before in _blocks_of(stored, start, pairs, whole=True):
            nearest.add(now, before, dtype)
            if nearest.changed and not whole:
                break
    return math.sqrt(nearest.squares), nearest.changed / max(1, nearest.compared), half


@dataclass
class _Change:
    """Sums over the differences from one possible start."""

    squares: float = 0.0
    changed: int = 0
    compared: int = 0

    def add(self, now: torch.Tensor, before: torch.Tensor, dtype: torch.dtype) -> None:
        """Compare a block with the base model's, as a run that held it in a dtype started from it."""
        # Rounded as the run did when it loaded the base, and then as it did when it saved: a weight that no step moved
        # gives exactly zero.
        difference = now.float() - before.to(dtype).to(now.dtype).float()
        # NaN has been reported, and would hide every other change.
        self.squares += float(difference.nan_to_num().square().sum())
        self.changed += int(difference.count_nonzero())
        self.compared += difference.numel()


def _nearest(sampled: Sequence[_Change]) -> int:
    """Return which of the possible starts a run had: in 16 bits it started from the rounded base.

    An element that is exactly as before is no coincidence: of a rounded start one in 10,000 would be. So a start under
    which clearly more of them are is the right one, however small the others' distance is; where nearly all have moved,
    the nearest is.
    """
    most = min(change.changed for change in sampled) + _COINCIDENCE * sampled[0].compared
    return min(
        (one for one in range(len(sampled)) if sampled[one].changed <= most), key=lambda one: sampled[one].squares
    )


def _blocks_of(
    stored: StoredTensors, start: StoredTensors, pairs: Sequence[tuple[str, str]], *, whole: bool
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the same blocks of both."""
    for name, other in pairs:
        for block in blocks(stored.shape(name), whole=whole):
            yield stored.read(name, block), start.read(other, block)


def _start(base: Path | None) -> StoredTensors | None:
    """Return the base model's weights; None where they are not here, or in a form that is not read."""
    try:
        return None if base is None else StoredTensors(base)
    except TrainingError:
        return None


def _start_name(stored: StoredTensors, name: str, start: StoredTensors) -> str | None:
    return start.counterpart(name.removeprefix(_PREFIX), stored.shape(name))


def product_norm(second: torch.Tensor, first: torch.Tensor) -> float:
    """Return the Frobenius norm of B·A without the product: ‖BA‖² = Σ (BᵀB) ∘ (AAᵀ), of rank × rank matrices.

    Args:
        second: B, ``[out, rank]``.
        first: A, ``[rank, in]``.
    """
    # Each by its largest entry: squares of small ones would underflow in fp32.
    largest = [float(factor.abs().max()) if factor.numel() else 0.0 for factor in (second, first)]
    if not all(largest) or not all(math.isfinite(value) for value in largest):
        return 0.0
    left, right = second.float() / largest[0], first.float() / largest[1]
    squares = float(((left.T @ left) * (right @ right.T)).double().sum())
    return largest[0] * largest[1] * math.sqrt(max(0.0, squares))


def _needs_base(stored: StoredTensors, norm: float) -> bool:
    whole = any("lora_" not in name for name in stored.names)
    return whole or (not norm and any(_MAGNITUDE in name for name in stored.names))


def _magnitude_norm(stored: StoredTensors, start: StoredTensors) -> float:
    """Return how far DoRA's magnitudes are from the norms of the base's weights, with which they start."""
    squares = 0.0
    for name in (name for name in stored.names if name.endswith(_MAGNITUDE)):
        layer = name.removesuffix(f".{_MAGNITUDE}").removeprefix(_PREFIX)
        magnitude = stored.read(name).float().flatten()
        found = next((one for one in start.names if one == f"{layer}.weight" or one.endswith(f".{layer}.weight")), None)
        if found is None:
            continue
        weight = start.read(found).float()
        # A linear layer has a magnitude for each row, GPT-2's Conv1D, which is stored transposed, for each column. Of a
        # square weight either may be meant, and it has moved only if it is near neither.
        norms = [weight.norm(dim=dim) for dim in (0, 1) if weight.shape[1 - dim] == len(magnitude)]
        # 1 % is more than rounding and NF4 move a norm.
        moved = [float((norm - magnitude).norm()) for norm in norms if not torch.allclose(norm, magnitude, rtol=1e-2)]
        squares += min(moved) ** 2 if len(moved) == len(norms) and moved else 0.0
    return math.sqrt(squares)


def _scale(settings: dict[str, object]) -> float:
    rank, alpha = float(str(settings.get("r", 1))), float(str(settings.get("lora_alpha", 1)))
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _settings(folder: Path) -> dict[str, object]:
    try:
        found: dict[str, object] = parse_json((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{folder / 'adapter_config.json'}: cannot be read: {error}") from error
    return found


def _finite(tensor: torch.Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())
