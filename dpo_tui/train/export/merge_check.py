"""Check of a merge: logits of the merged model against those of base + adapter, on texts of the run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from dpo_tui.train.model.load import disable_4bit_repacking

_MAX_TOKENS = 256
_MEMORY_FACTOR = 2.5
"""Memory for the fp32 model over its size on disk in 16 bits: twice the bytes, and room for activations."""
MAX_LOGIT_DIFFERENCE = 1e-3
"""Of a merge in fp32, where only the order of sums differs."""
MIN_SAME_TOP_TOKEN = 0.9
"""Share of the positions whose likeliest token a merge in 16 bits must leave unchanged."""


@dataclass(frozen=True)
class MergeCheck:
    """Agreement of a merged model with base + adapter.

    Attributes:
        max_logit_difference: largest absolute difference of a logit.
        same_top_token: share of the positions whose likeliest token is the same, 0 to 1.
        positions: number of positions compared.
    """

    max_logit_difference: float
    same_top_token: float
    positions: int


def fits_in_memory(base: Path) -> bool:
    """Whether a model can be loaded in fp32 in the memory that is free on this machine."""
    stored = sum(path.stat().st_size for path in base.glob("*.safetensors"))
    return bool(psutil.virtual_memory().available > _MEMORY_FACTOR * stored)


def check_merge(base: Path, adapter: Path, merged: Path, probe_texts: Sequence[str], *, nf4: bool) -> MergeCheck:
    """Compare the logits of a merged model and of base + adapter, in fp32 on the CPU, one loaded after the other.

    Args:
        base: folder of the base model.
        adapter: folder of the adapter, with the tokenizer.
        merged: folder of the merged model.
        probe_texts: texts to run both on, cut to 256 tokens each.
        nf4: whether the run held the base model in 4 bits; it is loaded so here.
    """
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    tokenized = [tokenizer(text, return_tensors="pt", truncation=True, max_length=_MAX_TOKENS) for text in probe_texts]
    rows = [encoding.input_ids for encoding in tokenized]
    options: dict[str, Any] = {"dtype": torch.float32}
    if nf4:
        quantised = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        )
        options["quantization_config"] = quantised
    base_model = AutoModelForCausalLM.from_pretrained(base, **options)
    disable_4bit_repacking(base_model)  # the repacked kernel computes in bf16
    unmerged_model = PeftModel.from_pretrained(base_model, str(adapter))
    unmerged = _logits(unmerged_model, rows)
    del unmerged_model, base_model  # fits_in_memory counts one model
    merged_logits = _logits(AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32), rows)
    pairs = list(zip(unmerged, merged_logits, strict=True))
    positions = sum(logits.shape[0] for logits in unmerged)
    same = sum(int((one.argmax(1) == other.argmax(1)).sum()) for one, other in pairs)
    largest = max(float((one - other).abs().max()) for one, other in pairs)
    return MergeCheck(largest, same / positions, positions)


@torch.no_grad()  # type: ignore[untyped-decorator]
def _logits(model: Any, rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the logits of each row, ``[tokens, vocabulary]``; row by row, so that padding plays no part."""
    model.eval()
    return [model(input_ids=row).logits[0].float() for row in rows]
