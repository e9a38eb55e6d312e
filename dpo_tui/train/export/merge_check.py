"""Whether a merged model says what base and adapter say together: their logits on the run's own prompts, compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from dpo_tui.train.model.load import disable_4bit_repacking

_LONGEST = 256
EXACT = 1e-3
"""Largest difference of a logit, in fp32: rounding of sums in another order."""
AGREEING = 0.9
"""Part of the positions in which a merge in 16 bits must leave the likeliest token as it was."""


@dataclass(frozen=True)
class MergeCheck:
    """How far two models agree.

    Attributes:
        largest: difference of a logit.
        same_first: part of the positions whose likeliest token is the same.
        positions: compared.
    """

    largest: float
    same_first: float
    positions: int


def fits_in_memory(base: Path) -> bool:
    """Whether the base model can be loaded in fp32 here, twice its size on disk in 16 bits, with room to work."""
    stored = sum(path.stat().st_size for path in base.glob("*.safetensors"))
    return bool(psutil.virtual_memory().available > 2.5 * stored)


def compare(base: Path, adapter: Path, merged: Path, texts: Sequence[str], *, nf4: bool) -> MergeCheck:
    """Compare a merged model with its unmerged parts, in fp32 on the CPU, one loaded after the other.

    Args:
        base: folder of the base model.
        adapter: folder of the adapter, with the tokenizer.
        merged: folder of the merged model.
        texts: to run both on.
        nf4: load the base in 4 bits, as the run did.
    """
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    rows = [tokenizer(text, return_tensors="pt", truncation=True, max_length=_LONGEST).input_ids for text in texts]
    options: dict[str, Any] = {"dtype": torch.float32}
    if nf4:
        quantised = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        )
        options["quantization_config"] = quantised
    loaded = AutoModelForCausalLM.from_pretrained(base, **options)
    disable_4bit_repacking(loaded)  # the repacked kernel computes in bf16
    apart = PeftModel.from_pretrained(loaded, str(adapter))
    before = _logits(apart, rows)
    del apart, loaded
    after = _logits(AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32), rows)
    pairs = list(zip(before, after, strict=True))
    positions = sum(one.shape[0] for one in before)
    same = sum(int((one.argmax(1) == other.argmax(1)).sum()) for one, other in pairs)
    return MergeCheck(max(float((one - other).abs().max()) for one, other in pairs), same / positions, positions)


@torch.no_grad()  # type: ignore[untyped-decorator]
def _logits(model: Any, rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    model.eval()
    return [model(input_ids=row).logits[0].float() for row in rows]
