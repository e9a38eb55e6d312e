"""Torch's attention for variable lengths: its signature, and what causal means where q is shorter than k."""

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.gpu_parts import varlen_reference
from benchmarks.gpu_parts.session import NotMeasured

if TYPE_CHECKING:
    from dpo_tui.train.model.device import TrainingDevice

_HEADS, _KEY_HEADS, _SIZE = 4, 2, 64
_QUERIES, _KEYS = (5, 7, 3), (5, 12, 40)  # equal, shorter, much shorter than the keys


def signature() -> Mapping[str, Any]:
    """Return the parameters of torch.nn.attention.varlen.varlen_attn."""
    function = _varlen_attn()
    parameters = list(inspect.signature(function).parameters)
    wanted = ("is_causal", "window_size", "enable_gqa", "scale")
    return {"found": ", ".join(parameters), "has": {name: name in parameters for name in wanted}}


def alignment(*, window: int | None = None) -> Mapping[str, Any]:
    """Compare varlen attention with SDPA on three sequences, outputs and gradients.

    SDPA gets an explicit mask that is aligned to the end: the last query sees every key. That is what answers over
    prompt + answer keys need. ``is_causal`` of SDPA itself is aligned to the start.

    Args:
        window: keys before its own that a query sees; None for all.

    Raises:
        NotMeasured: no GPU, or this torch takes no window.
    """
    import torch

    function = _varlen_attn()
    if not torch.cuda.is_available():
        raise NotMeasured("varlen_attn has no CPU kernel")
    parameters = inspect.signature(function).parameters
    if window is not None and "window_size" not in parameters:
        raise NotMeasured("this torch's varlen_attn takes no window_size")
    options: dict[str, Any] = (
        {"window_size": (-1 if window is None else window, 0)} if "window_size" in parameters else {"is_causal": True}
    )
    if "enable_gqa" in parameters:
        options["enable_gqa"] = True
    torch.manual_seed(0)
    heads = _KEY_HEADS if "enable_gqa" in parameters else _HEADS
    shape = {"device": "cuda", "dtype": torch.bfloat16, "requires_grad": True}
    query = torch.randn(sum(_QUERIES), _HEADS, _SIZE, **shape)
    key, value = (torch.randn(sum(_KEYS), heads, _SIZE, **shape) for _ in range(2))
    output = function(query, key, value, _starts(_QUERIES), _starts(_KEYS), max(_QUERIES), max(_KEYS), **options)
    gradient = torch.randn_like(output)
    output.backward(gradient)
    found = [output, query.grad, key.grad, value.grad]
    differences = {
        aligned: max(
            (mine.float() - theirs.float()).abs().max().item()
            for mine, theirs in zip(found, _by_sdpa((query, key, value), gradient, aligned, window), strict=True)
        )
        for aligned in ("end", "start")
    }
    aligned = min(differences, key=lambda name: differences[name])
    return {
        "found": f"causal is aligned to the {aligned}",
        "as_needed": aligned == "end" and differences["end"] < 0.05,
        "differs_from_end": differences["end"],
        "differs_from_start": differences["start"],
    }


def make_available(device: "TrainingDevice") -> None:
    """Let models be made with this attention: by torch's kernel on a GPU, by the reference elsewhere.

    Raises:
        NotMeasured: this GPU, or this torch, has no such kernel.
    """
    from dpo_tui.train.model import varlen_attention
    from dpo_tui.train.model.device import varlen_obstacle

    if device.kind != "cuda":
        varlen_reference.stand_in()
    elif obstacle := varlen_obstacle(device.kind, device.dtype):
        raise NotMeasured(obstacle)
    varlen_attention.register()


def _by_sdpa(inputs: Sequence[Any], gradient: Any, aligned: str, window: int | None) -> list[Any]:
    """Return output and gradients of the same attention, sequence by sequence."""
    import torch

    fresh = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    outputs, at_query, at_key = [], 0, 0
    for queries, keys in zip(_QUERIES, _KEYS, strict=True):
        rows = [fresh[0][at_query : at_query + queries]]
        rows += [tensor[at_key : at_key + keys] for tensor in fresh[1:]]
        offset = keys - queries if aligned == "end" else 0
        places = torch.arange(queries, device="cuda")[:, None] + offset
        others = torch.arange(keys, device="cuda")
        mask = others <= places
        if window is not None:
            mask &= others >= places - window
        heads_first = [row.transpose(0, 1)[None] for row in rows]
        attended = torch.nn.functional.scaled_dot_product_attention(*heads_first, attn_mask=mask, enable_gqa=True)
        outputs.append(attended[0].transpose(0, 1))
        at_query, at_key = at_query + queries, at_key + keys
    output = torch.cat(outputs)
    output.backward(gradient)
    return [output, *(tensor.grad for tensor in fresh)]


def _starts(lengths: Sequence[int]) -> Any:
    import torch

    return torch.tensor([0, *lengths], device="cuda", dtype=torch.int32).cumsum(0, dtype=torch.int32)


def _varlen_attn() -> Any:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError as error:
        raise NotMeasured(f"this torch has no varlen attention: {error}") from None
    return varlen_attn
