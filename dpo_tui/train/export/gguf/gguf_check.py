"""Check of a GGUF file: it is read again, and says what the model says that it was made of.

Tensors are compared by value, within the rounding of their type. Logits are compared through transformers' loader of
GGUF files, which undoes llama.cpp's layouts by code of its own: a layout that is wrong both in the writer and in the
comparison of tensors shows there.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from dpo_tui.data.tokens.tokenizer_settings import TokenizerSettings
from dpo_tui.errors import TrainingError
from dpo_tui.train.export.end_tokens import end_tokens
from dpo_tui.train.export.gguf.gguf_file import GgufModel, GgufType
from dpo_tui.train.export.merge_check import (
    MUCH_ROUNDING,
    ModelOutputs,
    load_in_fp32,
    model_outputs,
    probe_rows,
)
from dpo_tui.train.export.stored_tensors import StoredTensors

if TYPE_CHECKING:
    import gguf

_ROUNDING = 1e-5
"""Difference of logits, as a share of their size, that the order of sums alone can make in fp32."""
_MEMORY_FACTOR = 3
"""Memory over the size of the model in fp32: transformers holds the tensors of the file beside the model."""
_RELATIVE = {"F32": 1e-6, "F16": 2.0**-10, "BF16": 2.0**-8}
"""Largest difference of a value from the stored one, as a share of it: twice half a unit in the last place."""
_SMALLEST = 1e-7
"""Largest difference of a value too small for the exponent of fp16."""
_Q8_LEVELS = 127
_Q8_BLOCK = 32


@dataclass(frozen=True)
class GgufCheck:
    """Agreement of a GGUF file with the model that it was made of.

    Attributes:
        tensors: number of those compared.
        positions: number of positions at which logits were compared; 0 where they were not.
        error: difference of the logits that rounding does not explain, as a share of their size.
        rounding: difference that the rounding of the weights makes, as a share of what the training changed; None where
            the model before the training is not at hand.
        chosen: type of the matrices.
    """

    tensors: int
    positions: int
    error: float
    rounding: float | None
    chosen: GgufType

    def sentence(self) -> str:
        """Return the result for people."""
        read = f"Read again: all {self.tensors} tensors hold the model's values."
        if not self.positions:
            return f"{read} Logits were not compared: the model does not fit into this machine's memory in fp32."
        found = (
            f"{read} Loaded with transformers and compared with the model in fp32 at {self.positions} positions: "
            f"logits differ by at most {self.error:.2g} of their size beyond the rounding to {self.chosen}"
        )
        if self.rounding is None:
            return f"{found}."
        found += f", which moves them by {self.rounding:.2g} of what the training changed."
        if self.rounding < MUCH_ROUNDING:
            return found
        return (
            f"{found} Warning: the rounding to {self.chosen} moves the model by {self.rounding:.0%} of what the "
            "training changed, so much of the training is lost in the file. --gguf f16 rounds least."
        )


def check_gguf(
    model: GgufModel, file: Path, chosen: GgufType, probes: Sequence[str], before: Path | None, *, nf4: bool = False
) -> GgufCheck:
    """Compare a GGUF file with the model that it was made of.

    Args:
        model: what it was made of.
        file: of GGUF.
        chosen: type of its matrices.
        probes: texts to run both on.
        before: folder of the model before the training; None where it is not at hand.
        nf4: whether that was held in 4 bits in training.

    Raises:
        TrainingError: they do not agree.
    """
    tensors = compare_tensors(model, file)
    stored = StoredTensors(model.folder)
    in_fp32 = 4 * sum(math.prod(stored.shape(name)) for name in stored.names)
    if psutil.virtual_memory().available < _MEMORY_FACTOR * in_fp32:
        return GgufCheck(tensors, 0, 0.0, None, chosen)
    longest, _ = model.family.context_length(model.config)
    rows = [row[:, :longest] for row in probe_rows(model.folder, probes)]
    moved = None
    if before is not None:
        unchanged = model_outputs(load_in_fp32(before, nf4=nf4), rows)
    whole = load_in_fp32(model.folder)
    exact = model_outputs(whole, rows)
    if before is not None:
        moved = exact.distances(unchanged)[0]
        del unchanged
    _round(whole, model, file)
    expected = model_outputs(whole, rows)
    del whole
    vocabulary = len(_opened(file).fields[_TOKENS].data)
    expected, exact = _first(expected, vocabulary), _first(exact, vocabulary)
    found = model_outputs(_load_with_transformers(model, file, vocabulary), rows)
    error = found.distances(expected)[0] / expected.norms()[0]
    if not error <= _ROUNDING:  # NaN is no agreement
        raise TrainingError(
            f"The GGUF file does not say what the model says: logits differ by {error:.2g} of their size",
            hint="the file was removed; export with --merge and convert with llama.cpp, and report this",
        )
    rounding = expected.distances(exact)[0] / moved if moved else None
    return GgufCheck(tensors, len(expected.logits), error, rounding, chosen)


def _first(outputs: ModelOutputs, vocabulary: int) -> ModelOutputs:
    """Leave out the logits of embeddings behind the last token, which llama.cpp's converter drops for Gemma 3."""
    return ModelOutputs(outputs.logits[:, :vocabulary], outputs.hidden)


def compare_tensors(model: GgufModel, file: Path) -> int:
    """Compare every tensor of a GGUF file with the model's, and return how many there are.

    Raises:
        TrainingError: one is missing, one too many, or another than the model's.
    """
    from gguf.quants import dequantize

    reader = _opened(file)
    tokens = len(reader.fields[_TOKENS].data)
    left = {tensor.name: tensor for tensor in reader.tensors}
    count = len(left)
    for name, _, value in model.tensors(StoredTensors(model.folder)):
        tensor = left.pop(name, None)
        if tensor is None:
            raise _differs(f"it lacks {name}")
        expected = value.float().numpy()
        stored = dequantize(tensor.data, tensor.tensor_type)
        if name in _EMBEDDINGS and len(stored) == tokens:
            expected = expected[:tokens]
        if stored.shape != expected.shape or not _holds(stored, expected, tensor.tensor_type):
            raise _differs(f"{name} has other values than the model")
    if left:
        raise _differs(f"it holds {min(left)}, which the model does not have")
    return count


def check_end_tokens(folder: Path, file: Path) -> str:
    """Check that a GGUF file names an end at which the model's answers end, and its chat template.

    Returns:
        A remark where it does not name the end that the template writes; empty otherwise.

    Raises:
        TrainingError: it names another.
    """
    fields = _opened(file).fields
    ends = end_tokens(folder)
    named = [fields[key].contents() for key in _END_KEYS if key in fields]
    if ends and not set(ends) & set(named):
        text = TokenizerSettings(folder).special_tokens.get("eos_token")
        raise _differs(f"it names the ends {named} and not {ends} ({text}), so that answers would not end")
    if (folder / "chat_template.jinja").is_file() and "tokenizer.chat_template" not in fields:
        raise _differs("it has no chat template")
    if not ends or ends[0] in named:
        return ""
    closing = TokenizerSettings(folder).added_tokens.get(ends[0], ends[0])
    return (
        f"The file names {named} as ends, and answers end with {closing} ({ends[0]}): llama.cpp knows the usual ones "
        "by their text, and this has to be one of them."
    )


_TOKENS = "tokenizer.ggml.tokens"
_EMBEDDINGS = ("token_embd.weight", "output.weight")
_END_KEYS = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))


def _holds(stored: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], kind: "gguf.GGMLQuantizationType") -> bool:
    """Whether stored values are the expected ones within the rounding of their type."""
    difference = np.abs(stored - expected)
    if kind.name == "Q8_0":
        blocks = np.abs(expected).reshape(-1, _Q8_BLOCK).max(axis=1, keepdims=True)
        # Half a level of the block's scale, and the scale itself is rounded to fp16.
        bound = blocks * (0.5 / _Q8_LEVELS + _RELATIVE["F16"]) * 1.01 + _SMALLEST
        return bool((difference.reshape(-1, _Q8_BLOCK) <= bound).all())
    return kind.name in _RELATIVE and bool((difference <= np.abs(expected) * _RELATIVE[kind.name] + _SMALLEST).all())


@torch.no_grad()  # type: ignore[untyped-decorator]
def _round(whole: Any, model: GgufModel, file: Path) -> None:
    """Round the weights of a model in memory, each to the type that it has in a GGUF file.

    They are rounded in the model's own layout, so that this does not depend on the file's: blocks of quantised values
    lie along columns, and the layouts differ in the order of rows alone.
    """
    from gguf.quants import dequantize, quantize

    kinds = {tensor.name: tensor.tensor_type for tensor in _opened(file).tensors}
    weights = whole.state_dict()
    for name, stored, _ in model.tensors(StoredTensors(model.folder)):
        if stored in weights and kinds[name].name != "F32":
            values = weights[stored].float().numpy()
            rounded = dequantize(quantize(values, kinds[name]), kinds[name])
            weights[stored].copy_(torch.from_numpy(rounded))


def _load_with_transformers(model: GgufModel, file: Path, vocabulary: int) -> Any:
    config = copy.deepcopy(model.config)
    config.vocab_size = vocabulary
    if config.model_type == "mistral":
        # transformers has no names for tensors of a Mistral in GGUF, which is a Llama there. Of the two only the
        # sliding window differs, and rows are cut to it.
        values = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "sliding_window")}
        config = LlamaConfig(**values)
    # All settings from the model: the file's are compared by tests, and transformers reads only some of them.
    return AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, config=config, dtype=torch.float32, trust_remote_code=False
    )


def _opened(file: Path) -> "gguf.GGUFReader":
    from gguf import GGUFReader

    try:
        return GGUFReader(file)
    except Exception as error:  # several exception types, of numpy too
        raise _differs(f"it cannot be read: {error}") from error


def _differs(reason: str) -> TrainingError:
    return TrainingError(
        f"The GGUF file is not what it was made of: {reason}",
        hint="the file was removed; export with --merge and convert with llama.cpp, and report this",
    )
