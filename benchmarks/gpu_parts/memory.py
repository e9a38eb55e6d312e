"""Part c: estimated against measured GPU memory, under caps that imitate cards of 12, 16 and 24 GB."""

import contextlib
import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts import product_runs, random_models
from benchmarks.gpu_parts.memory_row import CARDS, Row, estimated, measured
from benchmarks.gpu_parts.random_models import GEMMA_1B, LLAMA_8B, QWEN_1B, QWEN_7B, SMOLLM2
from benchmarks.gpu_parts.session import Part, Session
from benchmarks.gpu_parts.synthetic_pairs import full_pairs
from dpo_tui.config.files import load
from dpo_tui.hardware.profiles import SETTINGS, ProfileName

_ROW_SECONDS = 90.0
_AT_ONCE = 6
"""Rows at the same time: their caps keep them apart, and each needs a few cores while it imports and builds."""


def rows() -> list[Row]:
    """Return the rows, most telling first."""
    four, sixteen = {"use_4bit": True, "lora_r": 16}, {"use_4bit": False, "lora_r": 16}
    alone = {"per_device_train_batch_size": 1}
    return [
        Row(LLAMA_8B, 12, dict(SETTINGS["mid-range"]), "mid-range"),
        Row(LLAMA_8B, 16, dict(SETTINGS["high-end"]), "high-end"),
        Row(QWEN_7B, 12, dict(SETTINGS["mid-range"]), "mid-range"),
        Row(QWEN_1B, 12, sixteen),
        Row(GEMMA_1B, 12, four),
        Row(SMOLLM2, 12, {**sixteen, "max_seq_length": 512, "per_device_train_batch_size": 8}),
        Row(QWEN_1B, 12, {**four, "max_seq_length": 2048}),
        Row(LLAMA_8B, 24, {**four, **alone, "max_seq_length": 4096}),
        Row(LLAMA_8B, 16, {**four, "lora_r": 64, "optim": "paged_adamw_8bit"}),
        Row(LLAMA_8B, 16, {**four, "activation_offloading": True, "max_seq_length": 2048}),
        Row(QWEN_1B, 16, {**sixteen, **alone, "max_seq_length": 512, "gradient_checkpointing": False}),
        Row(GEMMA_1B, 16, {**sixteen, "lora_r": 64, "optim": "adamw_8bit"}),
        Row(SMOLLM2, 16, {**sixteen, "max_seq_length": 1024, "gradient_checkpointing": False}),
        Row(QWEN_7B, 24, {**sixteen, **alone, "max_seq_length": 1024}),
        Row(SMOLLM2, 12, {"use_lora": False, "max_seq_length": 512}),
    ]


def measure(session: Session) -> None:
    """Measure the rows, several at once, then the presets as real runs."""
    chosen = rows()[:1] if session.dry else rows()
    room = _Room(_free_gigabytes())
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for row in chosen:
            pool.submit(_measure_one, session, row, room)
    presets: tuple[tuple[ProfileName, int], ...] = (("mid-range", 12), ("high-end", 16))
    for preset, card in presets:
        name = f"launched: Llama-3.1-8B, {preset} preset on {card} GB"
        session.measure(name, partial(_launched, session, preset, card), needs=40)
        if session.dry:
            break


def _measure_one(session: Session, row: Row, room: "_Room") -> None:
    with room.taken(row.card):
        seconds = session.limit(_ROW_SECONDS)
        session.measure(
            row.name,
            lambda: _in_gigabytes(measured(row, session.scratch, seconds=seconds, tiny=session.dry)),
            needs=15,
        )


class _Room:
    """Gigabytes of the GPU that rows share, counted by their caps."""

    def __init__(self, gigabytes: float) -> None:
        self._left = gigabytes
        self._changed = threading.Condition()

    def taken(self, gigabytes: float) -> "_Taken":
        """Return a context in which so much is taken; entering waits until it is there."""
        return _Taken(self, gigabytes)

    def take(self, gigabytes: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._left >= gigabytes)
            self._left -= gigabytes

    def give(self, gigabytes: float) -> None:
        with self._changed:
            self._left += gigabytes
            self._changed.notify_all()


class _Taken:
    def __init__(self, room: _Room, gigabytes: float) -> None:
        self._room, self._gigabytes = room, gigabytes

    def __enter__(self) -> None:
        self._room.take(self._gigabytes)

    def __exit__(self, *raised: object) -> None:
        self._room.give(self._gigabytes)


def _free_gigabytes() -> float:
    from dpo_tui.hardware import nvml

    free = max((gpu.memory_free or 0 for gpu in nvml.read().gpus), default=0)
    # Whatever there is, one row after the other must be possible.
    return max(free / 1e9, float(max(CARDS)) + 2)


def _in_gigabytes(found: Mapping[str, Any]) -> Mapping[str, Any]:
    sizes = ("estimated", "measured", "reserved", "allocated", "fixed", "context")
    return {
        name: round(value / 1e9, 3) if name in sizes and value is not None else value for name, value in found.items()
    }


def _launched(session: Session, preset: ProfileName, card: int) -> Mapping[str, Any]:
    """Train with a preset as a user does, from an NF4 model folder, where only the card's memory is free."""
    folder = _four_bit_folder(session)
    settings = dict(SETTINGS[preset])
    length = 48 if session.dry else settings["max_seq_length"]
    pairs = full_pairs(Path(session.scratch, f"{preset}.jsonl"), 24, length)
    values = {
        "model_name": str(folder),
        "profile": preset if session.dry else "auto",
        "max_steps": 2,
        "num_train_epochs": 1,
        "eval_split": 0.0,
        "kl_prompts": 0,
        "sample_prompts": 0,
    }
    if session.dry:
        values |= {"gpus": "none", "bf16": False, "max_seq_length": length, "gradient_accumulation_steps": 1}
    config = Path(session.scratch, f"{preset}.toml")
    config.write_text(f"[data]\ndataset = {json.dumps(str(pairs))}\n", encoding="utf-8")
    with contextlib.nullcontext() if session.dry else product_runs.little_memory(CARDS[card]):
        run = product_runs.launched(load(config, values), preset)
        product_runs.wait_for_end(run, session.limit(80))
    row = Row(LLAMA_8B, card, settings, preset)
    return {"estimated": round(estimated(row) / 1e9, 3)} | dict(product_runs.outcome(run))


def _four_bit_folder(session: Session) -> Path:
    """Write the 8B NF4 model once, 5.7 GB."""
    import torch

    from benchmarks.gpu_parts.training_setup import free_memory

    folder = Path(session.scratch, "llama-8b-nf4")
    if (folder / "config.json").is_file():
        return folder
    random_models.write_folder(folder, LLAMA_8B, tiny=session.dry)
    (folder / "config.json").unlink()  # save_pretrained writes it last: only then is the folder whole
    on_gpu = torch.cuda.is_available()
    model = random_models.random_model(
        LLAMA_8B,
        "cuda" if on_gpu else "cpu",
        four_bit=True,
        dtype=torch.bfloat16 if on_gpu else torch.float32,
        tiny=session.dry,
    )
    random_models.save_four_bit(model, folder)
    del model
    free_memory()
    return folder


PART = Part(
    letter="c",
    name="memory",
    title="GPU memory, estimated against measured",
    meaning=(
        "Decimal gigabytes. `measured` = the allocator's peak (`reserved`) + the CUDA context; `error` = estimated ÷ "
        "measured − 1, so below zero the estimate promises too much. `allocated`: peak of live tensors; `fixed`: what "
        "stays between steps. The allocator is capped at the card's memory. `launched` rows are real runs with "
        '`profile = "auto"` while the rest of the GPU is taken; their `peak_gb` is `reserved`.'
    ),
    seconds=150,
    measure=measure,
)
