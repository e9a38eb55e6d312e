"""Part g: what can only be seen on a GPU and decides how dpo-tui should compute: attention kernels and compilers."""

import shutil
import sysconfig
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts import varlen
from benchmarks.gpu_parts.session import NotMeasured, Part, Session

_HEADS, _KEY_HEADS, _SIZE = 32, 8, 128  # Llama-3.1-8B's attention
_REPEATS = 5
_LENGTHS = (2048, 4096, 8192)
_ODD_LENGTHS = range(1000, 1064)


def measure(session: Session) -> None:
    """Probe compilers and attention, cheapest first."""
    session.measure("varlen_attn, signature", varlen.signature)
    session.measure("varlen_attn, q ≠ k", varlen.alignment)
    session.measure("varlen_attn, q ≠ k, window 8", partial(varlen.alignment, window=8))
    session.measure("C compiler for Triton", _compiler)
    session.measure("TRL's LM head", partial(_fused_head, dry=session.dry))
    for length in (64,) if session.dry else _LENGTHS:
        for kind in ("is_causal", "bool mask", "additive mask"):
            session.measure(f"sdpa, {kind}, {length} tokens", partial(_sdpa, kind, length))
    for cudnn in (True, False):
        name = f"sdpa, bool mask, 64 lengths around 1,024, cuDNN {'on' if cudnn else 'off'}"
        session.measure(name, partial(_odd_lengths, cudnn, dry=session.dry), needs=10)


def _compiler() -> Mapping[str, Any]:
    """Triton compiles a C launcher: it needs a compiler and Python.h (slim containers have neither)."""
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    header = Path(sysconfig.get_path("include"), "Python.h")
    return {"found": compiler or "none", "python_h": header.is_file()}


def _fused_head(*, dry: bool) -> Mapping[str, Any]:
    """Call TRL's LM head forward and backward, which compiles its Triton kernels."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    from benchmarks.gpu_parts.clock import now

    if not dry and not torch.cuda.is_available():
        raise NotMeasured("torch sees no GPU")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=1600, **shape)).to(device, torch.bfloat16)
    add_fused_lm_head(model)
    ids = torch.randint(0, 1600, (2, 32), device=device)
    times = []
    for _ in range(2):
        began = now()[0]
        model(input_ids=ids, labels=ids, fused_lm_head=True).log_probs.sum().backward()
        times.append(now()[0] - began)
    return {"found": "works", "first_seconds": round(times[0], 2), "second_seconds": round(times[1], 4)}


def _sdpa(kind: str, length: int) -> Mapping[str, Any]:
    """Time forward and backward of one layer's attention, and name the kernel that torch chose."""
    import torch

    device = _device()
    attend = _attention(kind, length, device)
    attend()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    milliseconds = _timed(attend)
    return {
        "ms": milliseconds,
        "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2) if device == "cuda" else None,
        "kernels": _kernels(attend),
    }


def _odd_lengths(cudnn: bool, *, dry: bool) -> Mapping[str, Any]:
    """Time lengths that each occur once, as in batches of real rows, against one fixed length."""
    import torch

    device = _device()
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(cudnn)
    try:
        fixed = _attention("bool mask", 48 if dry else 1024, device)
        fixed()
        lengths = (40, 44) if dry else _ODD_LENGTHS
        changing = [_timed(_attention("bool mask", length, device), repeats=1) for length in lengths]
        return {"ms": sum(changing) / len(changing), "ms_fixed_length": _timed(fixed)}
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def _attention(kind: str, length: int, device: str) -> Callable[[], None]:
    import torch

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    options: dict[str, Any] = {"device": device, "dtype": dtype, "requires_grad": True}
    query = torch.randn(1, _HEADS, length, _SIZE, **options)
    # As transformers does it: without a mask SDPA repeats keys and values itself, with one they are repeated before.
    key_heads = _KEY_HEADS if kind == "is_causal" else _HEADS
    key, value = (torch.randn(1, key_heads, length, _SIZE, **options) for _ in range(2))
    allowed = torch.ones(length, length, dtype=torch.bool, device=device).tril()[None, None]
    mask = None
    if kind == "bool mask":
        mask = allowed
    elif kind == "additive mask":
        mask = torch.zeros(allowed.shape, dtype=dtype, device=device).masked_fill(~allowed, torch.finfo(dtype).min)

    def attend() -> None:
        output = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, enable_gqa=mask is None
        )
        output.sum().backward()

    return attend


def _timed(function: Callable[[], None], repeats: int = _REPEATS) -> float:
    from benchmarks.gpu_parts.clock import now

    began = now()[0]
    for _ in range(repeats):
        function()
    return round((now()[0] - began) / repeats * 1000, 3)


def _kernels(function: Callable[[], None]) -> list[str]:
    """Name the three kernels that took longest."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        function()
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_device_time_total)
    return [event.key[:60] for event in events[:3] if event.self_device_time_total > 0]


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


PART = Part(
    letter="g",
    name="kernels",
    title="Attention kernels and compilers",
    meaning=(
        "`varlen_attn` must be causal with the last query at the last key. `ms`: forward and backward of one layer's "
        "attention in Llama-3.1-8B's shape, one row; `kernels`: the slowest three that torch chose."
    ),
    seconds=35,
    measure=measure,
)
