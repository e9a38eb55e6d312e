"""Check of a merge: what the merged model computes against base + adapter, relative to what the adapter changes.

Logits and last hidden states are compared in fp32, as norms over all positions. Of a merge in 16 bits, two differences
are bounded instead of one: between base + adapter and the same weights merged in memory by PEFT, in fp32, and between
those weights, rounded in memory, and the merged files. Rounding alone, which may exceed what the adapter changes, is
then no fault, and everything else is one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import psutil
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import AutoTokenizer, BitsAndBytesConfig

from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.metrics_reader import read_all
from dpo_tui.train.export.adapted_layers import read_adapted_model
from dpo_tui.train.export.bnb_4bit_files import is_stored_in_4_bits
from dpo_tui.train.export.merge_weights import quantise_linear_layers
from dpo_tui.train.model.load import disable_4bit_repacking
from dpo_tui.train.model.model_class import model_class
from dpo_tui.train.model.verified_code import may_run_code_of

_MAX_TOKENS = 128
_MOST_SAMPLES = 4
"""Sampled answers of the run among the texts."""
_VOCABULARY_TOKENS = 96
"""Tokens taken at equal distances from the whole vocabulary: texts alone would miss most rows of an embedding."""
_TEXTS = (
    "The capital of France is Paris. In 1889 the Eiffel Tower opened there; at 330 metres it was the tallest building.",
    "def mean(values):\n    return sum(values) / len(values)  # fails for an empty list\n",
)
_MEMORY_FACTOR = 2.5
"""Memory for the fp32 model over its size on disk in 16 bits: twice the bytes, and room for activations."""
_MAX_ERROR = 0.01
"""Largest difference from base + adapter, as a share of what the adapter changes."""
_ROUNDING = 1e-5
"""Difference, as a share of the values themselves, that the order of sums alone can make in fp32."""
MUCH_ROUNDING = 0.5
"""Rounding, as a share of what the adapter changes, from which a merge is warned about. At 1 the merged model is as far
from base + adapter as the base model is, so nothing certain is left of the training; half of it is a bound of ours."""


@dataclass(frozen=True)
class MergeCheck:
    """Agreement of a merged model with base + adapter.

    Attributes:
        error: largest difference that rounding of the stored weights does not explain, as a share of what the adapter
            changes; of logits or hidden states, whichever is larger. NaN where the merged model computes none.
        rounding: difference that the rounding to 16 bits makes, in the same unit; 0 in fp32.
        agrees: whether the difference is within the bound.
        positions: number of positions compared.
    """

    error: float
    rounding: float
    agrees: bool
    positions: int

    def sentence(self) -> str:
        """Return the result for people."""
        rounding = f", and the rounding to 16 bits by {self.rounding:.2g} of it" if self.rounding else ""
        return (
            f"Compared with base + adapter in fp32 at {self.positions} positions: logits differ by at most "
            f"{self.error:.2g} of what the adapter changes{rounding}.{self._warning()}"
        )

    def _warning(self) -> str:
        """Return a warning where the rounding takes much of what was trained away; empty where not."""
        if self.rounding < MUCH_ROUNDING:
            return ""
        return (
            f" Warning: the rounding to 16 bits moves the model by {self.rounding:.0%} of what the adapter changes, so "
            "much of the training is lost in the merged files. Export with --precision fp32 to keep it."
        )


@dataclass(frozen=True)
class ModelOutputs:
    """What a model computes on all probes.

    Attributes:
        logits: ``[positions, vocabulary]``.
        hidden: last hidden states, ``[positions, width]``.
    """

    logits: torch.Tensor
    hidden: torch.Tensor

    def distances(self, other: "ModelOutputs") -> tuple[float, float]:
        """Return the norms of the differences of logits and of hidden states."""
        return float((self.logits - other.logits).norm()), float((self.hidden - other.hidden).norm())

    def norms(self) -> tuple[float, float]:
        """Return the norms of logits and of hidden states."""
        return float(self.logits.norm()), float(self.hidden.norm())


def fits_in_memory(base: Path) -> bool:
    """Whether a model can be loaded in fp32 in the memory that is free on this machine."""
    stored = sum(path.stat().st_size for path in base.glob("*.safetensors"))
    return bool(psutil.virtual_memory().available > _MEMORY_FACTOR * stored)


def check_merge(
    base: Path, adapter: Path, merged: Path, probes: Sequence[str], *, dtype: torch.dtype, nf4: bool
) -> MergeCheck:
    """Compare a merged model and base + adapter, in fp32 on the CPU, one model in memory at a time.

    Args:
        base: folder of the base model.
        adapter: folder of the adapter, with the tokenizer.
        merged: folder of the merged model.
        probes: texts to run both on, cut to 128 tokens each.
        dtype: of the merged weights.
        nf4: whether the run held the base model in 4 bits; it is loaded so here. A base that is stored in 4 bits is
            loaded so in any case.
    """
    rows = probe_rows(adapter, probes)
    model = load_in_fp32(base, adapter, nf4=nf4)
    unchanged = model_outputs(model, rows)
    model = PeftModel.from_pretrained(model, str(adapter))
    expected = model_outputs(model, rows)
    # The unit of every bound. Shares of the logits themselves would let a merge pass that dropped the adapter: a few
    # hundred steps of DPO move them by a small part of their size.
    moved, sizes = expected.distances(unchanged), expected.norms()
    del unchanged
    error, rounding = (0.0, 0.0), (0.0, 0.0)
    if dtype != torch.float32:
        if nf4 or is_stored_in_4_bits(base):  # its layers would be merged into 4 bits again
            del model
            model = load_in_fp32(base, adapter, nf4=False)
            if is_stored_in_4_bits(base):
                model = model.dequantize()
            else:
                quantise_linear_layers(model, read_adapted_model(base, adapter).linear)
            model = PeftModel.from_pretrained(model, str(adapter))
        # Here the same weights are merged in another way, by PEFT with the whole model in memory, and stay in fp32: a
        # merge that is wrong differs by whole weights, one in 16 bits by rounding alone.
        model = _merge_in_memory(model)
        exact = model_outputs(model, rows)
        error = exact.distances(expected)
        _round_weights(model, dtype)
        expected = model_outputs(model, rows)
        rounding = expected.distances(exact)
        del exact
    del model
    # The files hold 16 bits and compute in fp32 here, as the rounded weights in memory do, so that nothing is left to
    # explain by rounding.
    found = model_outputs(load_in_fp32(merged, adapter, nf4=False), rows).distances(expected)
    worst = [_largest(both) for both in zip(error, found, strict=True)]
    # The second term for an adapter that changes next to nothing: the order of sums differs between the two models, and
    # that difference grows with the logits and not with the adapter.
    bounds = [_MAX_ERROR * move + _ROUNDING * size for move, size in zip(moved, sizes, strict=True)]
    return MergeCheck(
        error=_largest_share(worst, moved),
        rounding=_largest_share(rounding, moved),
        agrees=all(difference <= bound for difference, bound in zip(worst, bounds, strict=True)),  # false for NaN
        positions=len(expected.logits),
    )


def probe_texts(folder: RunFolder) -> list[str]:
    """Return prompts with answers that a run has sampled, and texts that are always there."""
    found = []
    for sample in chain.from_iterable(read_all(folder.samples)):
        prompt = sample.get("prompt")
        if isinstance(prompt, list) and prompt and isinstance(prompt[-1], dict):
            found.append(f"{prompt[-1].get('content', '')}\n{sample.get('answer', '')}")
    different = list(dict.fromkeys(text for text in found if text.strip()))
    return [*different[:_MOST_SAMPLES], *_TEXTS]


def probe_rows(folder: Path, probes: Sequence[str]) -> list[torch.Tensor]:
    """Return rows of token ids, ``[1, tokens]`` each: the texts, and tokens from the whole vocabulary.

    Args:
        folder: with the tokenizer.
        probes: texts.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=may_run_code_of(folder))
    rows = [tokenizer(text, return_tensors="pt", truncation=True, max_length=_MAX_TOKENS).input_ids for text in probes]
    # Without added tokens: a placeholder for an image cannot be run without an image.
    ordinary = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.added_tokens_decoder))
    spread = ordinary[:: max(1, len(ordinary) // _VOCABULARY_TOKENS)][:_VOCABULARY_TOKENS]
    return [row for row in (*rows, torch.tensor([spread])) if row.shape[1]]


def load_in_fp32(folder: Path, adapter: Path | None = None, *, nf4: bool = False) -> Any:
    """Load a model for a comparison, on the CPU; ``adapter`` is the one that will be put on it."""
    options: dict[str, Any] = {"dtype": torch.float32}
    if nf4:
        quantised = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        )
        # transformers puts a model in 4 bits on a GPU where there is one.
        options |= {"quantization_config": quantised, "device_map": {"": "cpu"}}
    options["trust_remote_code"] = may_run_code_of(folder)
    model = model_class(folder, adapter=adapter).from_pretrained(folder, **options)
    disable_4bit_repacking(model)  # the repacked kernel computes in bf16
    return model


@torch.no_grad()  # type: ignore[untyped-decorator]
def model_outputs(model: Any, rows: Sequence[torch.Tensor]) -> ModelOutputs:
    """Run a model row by row, so that padding plays no part."""
    model.eval()
    logits, hidden = [], []
    for row in rows:
        found = model(input_ids=row, output_hidden_states=True, use_cache=False)
        logits.append(found.logits[0].float())
        # Gemma 3n has several of them, one behind the other: [streams, 1, length, width].
        hidden.append(found.hidden_states[-1].reshape(-1, found.hidden_states[-1].shape[-1]).float())
    return ModelOutputs(torch.cat(logits), torch.cat(hidden))


def _merge_in_memory(model: PeftModel) -> Any:
    for module in model.modules():
        if isinstance(module, LoraLayer):
            # PEFT adds in place: the output layer tied to an embedding would change with it.
            layer, name = module.get_base_layer(), getattr(module, "parameter_name", "weight")
            setattr(layer, name, torch.nn.Parameter(getattr(layer, name).detach().clone(), requires_grad=False))
    return model.merge_and_unload()


@torch.no_grad()  # type: ignore[untyped-decorator]
def _round_weights(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Round every stored weight in place to a dtype, as writing it in that dtype does."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.to(dtype))


def _largest(values: Sequence[float]) -> float:
    """Return the largest value; NaN where one is NaN, which max() may pass over."""
    return math.nan if any(math.isnan(value) for value in values) else max(values)


def _largest_share(differences: Sequence[float], of: Sequence[float]) -> float:
    """Return the largest ratio; infinite where there is a difference and nothing was changed, NaN with any NaN."""
    return _largest(
        [
            difference / whole if whole else (math.inf if difference else 0.0)
            for difference, whole in zip(differences, of, strict=True)
        ]
    )
