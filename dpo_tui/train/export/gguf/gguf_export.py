"""Export of a run as one GGUF file: checked as far as it can be, merged, written, read again and compared."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from dpo_tui.config.schema import Config
from dpo_tui.errors import TrainingError, UsageError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.export.bnb_4bit_files import is_stored_in_4_bits
from dpo_tui.train.export.gguf.gguf_check import check_end_tokens, check_gguf
from dpo_tui.train.export.gguf.gguf_file import GgufModel, GgufType, size_of, write_gguf
from dpo_tui.train.export.gguf.llama_cpp import conversion_commands, find_converter, run_converter
from dpo_tui.train.export.merge_check import probe_texts
from dpo_tui.train.export.merged_model import MergeProgress, write_merged_model
from dpo_tui.train.model.base_files import base_folder, licence_of, local_base_folder
from dpo_tui.train.model.load import model_config_values
from dpo_tui.train.model.model_class import model_without_weights
from dpo_tui.train.model.verified_code import may_run_code_of

_MERGED_AS: dict[GgufType, torch.dtype] = {"bf16": torch.bfloat16, "f16": torch.float16, "q8_0": torch.float16}
"""Type of the merged model on the way: fp16 rounds a value less than its share of a block of Q8_0 does, by far."""
_SPARE = 1 << 28
"""Bytes that are to be left on the disk, for the tokenizer, the card and others."""


@dataclass(frozen=True)
class GgufResult:
    """A GGUF file that was written.

    Attributes:
        file: its name.
        sentences: what the merge's check and the file's found, and what is to be known of the file.
    """

    file: str
    sentences: Sequence[str]


@dataclass(frozen=True)
class GgufPlan:
    """An export that can be made, as far as that can be known before.

    Attributes:
        config: of the run.
        folder: of the run.
        chosen: type of the matrices.
        converter: command of llama.cpp's converter; None where the file is written here.
    """

    config: Config
    folder: RunFolder
    chosen: GgufType
    converter: list[str] | None

    def write(self, target: Path, progress: MergeProgress, *, check: bool) -> GgufResult:
        """Merge where there is an adapter, write the file into a folder, and compare it.

        Args:
            target: an existing folder, beside which the merged model is for as long as it is needed.
            progress: called with what is done now.
            check: whether to compare.

        Raises:
            TrainingError: the merged model does not agree with its parts, or the file with the model.
        """
        merged = target.with_name(f"{target.name}.merged")
        shutil.rmtree(merged, ignore_errors=True)
        merged.mkdir()
        try:
            sentences = [self._make_whole_model(merged, progress, check=check)]
            model = merged if self.config.use_lora else self.folder.merged
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", self.config.name or "tuned").strip("-._") or "tuned"
            file = target / f"{name}-{self.chosen}.gguf"
            sentences += self._write_file(model, file, progress, check=check)
        finally:
            shutil.rmtree(merged, ignore_errors=True)
        return GgufResult(file.name, [sentence for sentence in sentences if sentence])

    def _make_whole_model(self, merged: Path, progress: MergeProgress, *, check: bool) -> str:
        if not self.config.use_lora:
            return ""
        dtype = _MERGED_AS[self.chosen]
        return write_merged_model(self.config, self.folder, merged, dtype, progress, check=check) or ""

    def _write_file(self, folder: Path, file: Path, progress: MergeProgress, *, check: bool) -> list[str]:
        progress(f"Writing {file.name}", 0, None)
        title = self.config.name or "tuned"
        if self.converter is None:
            model = GgufModel(folder)
            licence = licence_of(base_folder(self.config)).get("license", "")
            write_gguf(model, file, self.chosen, title, licence)
            how = "Written by dpo-tui"
        else:
            run_converter(self.converter, folder, file, self.chosen, title)
            how = f"Written by llama.cpp's {Path(self.converter[-1]).name}"
            try:
                model = GgufModel(folder)
            except UsageError as reason:
                return [
                    f"{how}, and not compared with the model: {reason.message}.",
                    check_end_tokens(folder, file),
                ]
        _, shorter = model.family.context_length(model.config) if self.converter is None else (0, "")
        if not check:
            return [f"{how}, and not compared with the model.", shorter]
        progress("Reading the file again", 0, None)
        ends = check_end_tokens(folder, file)
        before = local_base_folder(self.config.model_name, self.config.model_revision)
        nf4 = self.config.use_4bit and before is not None and not is_stored_in_4_bits(before)
        found = check_gguf(model, file, self.chosen, probe_texts(self.folder), before, nf4=nf4)
        return [f"{how}. {found.sentence()}", shorter, ends]


def plan_gguf(config: Config, folder: RunFolder, chosen: GgufType, place: Path) -> GgufPlan:
    """Check an export as GGUF before anything is merged.

    Args:
        config: of the run.
        folder: of the run, which has a result.
        chosen: type of the matrices.
        place: the folder in which the export will be.

    Raises:
        UsageError: there is no converter for the model, or the disk has too little room.
    """
    converter = find_converter()
    result = folder.adapter if config.use_lora else folder.merged
    if not result.is_dir():
        raise TrainingError(
            f"run {folder.id} has no result yet: {result} is not there",
            hint=f"`dpo-tui status {folder.id}` shows how it goes, or how it ended.",
        )
    base = base_folder(config) if config.use_lora else result
    settings = AutoConfig.from_pretrained(base, trust_remote_code=may_run_code_of(base), **model_config_values(config))
    if converter is None:
        try:
            # The tokenizer is that of the result, the model's shape that of its base.
            GgufModel(result, settings)
        except UsageError as error:
            raise UsageError(f"--gguf {chosen}: {error.message}", hint=conversion_commands(chosen)) from None
    _require_room(settings, base, config, chosen, place)
    return GgufPlan(config, folder, chosen, converter)


def _require_room(settings: Any, base: Path, config: Config, chosen: GgufType, place: Path) -> None:
    parameters = sum(parameter.numel() for parameter in model_without_weights(base).parameters())
    merged = parameters * _MERGED_AS[chosen].itemsize if config.use_lora else 0
    needed = merged + size_of(parameters, chosen) + _SPARE
    existing = next(folder for folder in (place, *place.parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UsageError(
            f"--gguf {chosen}: needs {needed / 1e9:,.1f} GB under {existing}, and {free / 1e9:,.1f} GB are free",
            hint="Most of it is the merged model, which is deleted again. Name a folder on another disk.",
        )
