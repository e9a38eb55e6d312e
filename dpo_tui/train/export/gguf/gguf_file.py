"""Write a model's folder as a GGUF file, tensor by tensor, so that memory does not grow with the model.

The package gguf is imported where it is needed: it is an extra, which only these exports ask for.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from transformers import AutoConfig

import dpo_tui
from dpo_tui.errors import TrainingError, UsageError
from dpo_tui.train.export.gguf.gguf_families import GGUF_FAMILIES, GgufFamily
from dpo_tui.train.export.gguf.gguf_tokenizer import GgufTokenizer, read_gguf_tokenizer
from dpo_tui.train.export.stored_tensors import StoredTensors
from dpo_tui.train.model.verified_code import may_run_code_of

if TYPE_CHECKING:
    import gguf

GgufType = Literal["f16", "bf16", "q8_0"]
"""Type of the matrices; vectors and norms are in fp32, as llama.cpp's converter has them."""
_Q8_BLOCK = 32
"""Values of a row that share one scale in Q8_0."""


class GgufModel:
    """A model's folder as a GGUF file is to hold it.

    Args:
        folder: of a whole model with its tokenizer, as transformers saves it.
        config: of the model, where it is not that of the folder.

    Raises:
        UsageError: GGUF cannot hold the model or its tokenizer exactly, or the writer does not know how.
    """

    def __init__(self, folder: Path, config: Any = None) -> None:
        self.folder = folder
        self.config = config or AutoConfig.from_pretrained(folder, trust_remote_code=may_run_code_of(folder))
        family = GGUF_FAMILIES.get(self.config.model_type)
        if family is None:
            known = ", ".join(GGUF_FAMILIES)
            raise UsageError(f"a model of the type {self.config.model_type} cannot be written (known are {known})")
        if (obstacle := family.obstacle(self.config)) is not None:
            raise UsageError(f"this {self.config.model_type} cannot be written exactly: {obstacle}")
        self.family: GgufFamily = family
        self.tokenizer: GgufTokenizer = read_gguf_tokenizer(folder, self.config.vocab_size)

    def tensors(self, stored: StoredTensors) -> Iterator[tuple[str, str, torch.Tensor]]:
        """Yield the name in GGUF, the name in the model's files, and the value in llama.cpp's layout, of every tensor.

        Raises:
            UsageError: llama.cpp has no place for one.
        """
        import gguf

        arch = next(one for one, name in gguf.MODEL_ARCH_NAMES.items() if name == self.family.architecture)
        names = gguf.get_tensor_name_map(arch, self.config.num_hidden_layers)
        tied = bool(self.config.tie_word_embeddings)
        for name in stored.names:
            # Some files hold the output layer although it is the embedding; transformers ignores it then.
            if tied and name == "lm_head.weight":
                continue
            found = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if found is None or not self.family.has_place(name):
                raise UsageError(f"llama.cpp has no place for {name} in a model of the type {self.family.architecture}")
            yield found, name, self.family.stored(name, stored.read(name), self.config)
        for found, tensor in self.family.extra_tensors(self.config).items():
            yield found, "", tensor


def quantisation(name: str, shape: tuple[int, ...], chosen: GgufType) -> "gguf.GGMLQuantizationType":
    """Return the type in which a tensor is stored, by llama.cpp's rules."""
    from gguf import GGMLQuantizationType

    if len(shape) == 1 or name.endswith("_norm.weight"):
        return GGMLQuantizationType.F32
    if chosen == "q8_0" and shape[-1] % _Q8_BLOCK:
        return GGMLQuantizationType.F16
    return GGMLQuantizationType[chosen.upper()]


def write_gguf(model: GgufModel, target: Path, chosen: GgufType, name: str, licence: str = "") -> None:
    """Write a GGUF file.

    Args:
        model: what to write.
        target: a file that is not there yet.
        chosen: type of the matrices.
        name: of the model, for people.
        licence: of the base model, as the hub names it; empty where it is not known.

    Raises:
        TrainingError: a weight is too large for fp16, or is no number.
        UsageError: llama.cpp has no place for a tensor.
    """
    import gguf

    writer = gguf.GGUFWriter(target, model.family.architecture)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_description(f"Trained and exported with dpo-tui {dpo_tui.__version__}")
    if licence:
        writer.add_license(licence)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{chosen.upper()}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in model.family.settings(model.config):
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
        add(f"{model.family.architecture}.{key}", value)
    _add_tokenizer(writer, model.tokenizer)
    stored = StoredTensors(model.folder)
    for found, _, tensor in model.tensors(stored):
        shape = tuple(tensor.shape)
        kind = quantisation(found, shape, chosen)
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        # The shape is that of the bytes, as the writer wants it of a type that numpy does not have.
        bytewise = kind.name not in ("F32", "F16")
        dtype = np.uint8 if bytewise else np.float32 if kind.name == "F32" else np.float16
        in_bytes = (*shape[:-1], shape[-1] // block * block_bytes) if bytewise else shape
        size = tensor.numel() // block * block_bytes
        writer.add_tensor_info(found, in_bytes, np.dtype(dtype), size, raw_dtype=kind if bytewise else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    try:
        for found, _, tensor in model.tensors(stored):
            writer.write_tensor_data(_values(found, tensor, quantisation(found, tuple(tensor.shape), chosen)))
    finally:
        writer.close()


def size_of(parameters: int, chosen: GgufType) -> int:
    """Return the bytes of a file with so many parameters, without its tokenizer."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[chosen.upper()]]
    return int(parameters // block * block_bytes)


def _values(name: str, tensor: torch.Tensor, kind: "gguf.GGMLQuantizationType") -> np.ndarray[Any, Any]:
    from gguf.quants import quantize

    values = tensor.float().contiguous().numpy()
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is looked for below
        written: np.ndarray[Any, Any] = quantize(values, kind)
    if not np.isfinite(values).all():
        raise TrainingError(f"{name}: holds values that are no numbers", hint="`dpo-tui verify RUN` says where")
    if kind.name == "F16" and not np.isfinite(written).all():
        raise TrainingError(f"{name}: has weights above 65,504, the largest of fp16", hint="export with --gguf bf16")
    return written


def _add_tokenizer(writer: "gguf.GGUFWriter", tokenizer: GgufTokenizer) -> None:
    writer.add_tokenizer_model(tokenizer.model)
    writer.add_tokenizer_pre(tokenizer.pre)
    writer.add_token_list(list(tokenizer.tokens))
    writer.add_token_types(list(tokenizer.types))
    if tokenizer.merges:
        writer.add_token_merges(list(tokenizer.merges))
    if tokenizer.scores:
        writer.add_token_scores(list(tokenizer.scores))
    for key, number in tokenizer.special.items():
        writer.add_uint32(f"tokenizer.ggml.{key}", number)
    for key, flag in tokenizer.flags.items():
        writer.add_bool(f"tokenizer.ggml.{key}", flag)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)
