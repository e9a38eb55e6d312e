"""One row of the memory table, measured in a process of its own; benchmarks/vram.py and part c of gpu.py use it.

    python -m benchmarks.gpu_parts.memory_row ROW.json SCRATCH

The process caps PyTorch's allocator at the memory of a card, builds the model on the GPU, and takes two optimizer steps
with the trainer that dpo-tui's worker builds, on pairs that fill max_seq_length. It prints one line of JSON.

`measured` is what the card must have: the allocator's peak (`reserved`) and the CUDA context. `error` is
estimated ÷ measured − 1, so below zero the estimate promises too much. `fixed` is what stays between two steps
(weights, adapter, optimizer's state), so that the estimate's slack can be set for both halves.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dpo_tui.config.files import from_values
from dpo_tui.config.schema import Config
from dpo_tui.hardware.apply_profile import shrink_to_fit
from dpo_tui.hardware.memory.memory_estimate import estimate
from dpo_tui.hardware.memory.overheads import ASSUMED
from dpo_tui.hardware.models.lookup import architecture_of
from dpo_tui.hardware.profiles import Profile
from dpo_tui.processes.child_environment import child_environment

# Free memory of an idle card as it is sold: 12,282, 16,376 and 24,564 MiB, less 300 MiB that the driver keeps.
CARDS = {12: (12282 - 300) * 2**20, 16: (16376 - 300) * 2**20, 24: (24564 - 300) * 2**20}
MARK = "MEASURED "
_TINY_LENGTH = 48


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        model: id in the shipped table of architectures.
        card: gigabytes of the card that is imitated.
        settings: over the defaults.
        preset: name of the preset that they are; it is adapted to the card as ``profile = "auto"`` does it.
    """

    model: str
    card: int
    settings: dict[str, Any] = field(default_factory=dict)
    preset: str = ""

    @property
    def name(self) -> str:
        """What is measured, for a table."""
        config = config_of(self)
        weights = ("NF4" if config.use_4bit else "bf16") if config.use_lora else "full, fp32"
        extras = [f"{self.preset} preset"] if self.preset else []
        extras += [] if config.gradient_checkpointing else ["no checkpointing"]
        extras += ["offloaded activations"] if config.activation_offloading else []
        extras += [config.optim] if config.optim != "adamw_torch" else []
        shape = f"{config.per_device_train_batch_size} × {config.max_seq_length}"
        rank = f"r {config.lora_r}" if config.use_lora else ""
        parts = [self.model.rpartition("/")[2], weights, rank, shape, f"{self.card} GB", *extras]
        return ", ".join(part for part in parts if part)


def config_of(row: Row) -> Config:
    """Return the row's config, adapted to the card where it is a preset."""
    made = from_values({"model_name": row.model, "dataset": "-", **row.settings})
    if row.preset:
        card = Profile("mid-range", 0, "", {}, (), CARDS[row.card], CARDS[row.card])
        made, _ = shrink_to_fit(made, set(), card)
    return made


def estimated(row: Row) -> int:
    """Return the estimate for a row, in bytes."""
    return estimate(config_of(row), architecture_of(row.model)).total


def measured(row: Row, scratch: Path, *, seconds: float, tiny: bool = False) -> Mapping[str, Any]:
    """Measure a row in a child process, and compare it with the estimate.

    Returns:
        Figures in bytes and seconds.

    Raises:
        RuntimeError: the child died; the message has its last words.
        TimeoutError: it gave no result in time.
    """
    place = Path(tempfile.mkdtemp(prefix="row-", dir=scratch))
    description = place / "row.json"
    description.write_text(json.dumps({**asdict(row), "tiny": tiny}), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.gpu_parts.memory_row", str(description), str(place)]
    environment = child_environment() | {"DPO_TUI_HOME": str(place / "home")}
    environment["HF_DATASETS_CACHE"] = str(place / "datasets")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, env=environment)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"no result within {seconds:.0f} s") from None
    guess = estimated(row)
    found = next((line for line in done.stdout.splitlines() if line.startswith(MARK)), None)
    if found is None:
        raise RuntimeError(f"estimated {guess / 1e9:.2f} GB; {_last_words(done.stderr, done.returncode)}")
    result = {"estimated": guess, **json.loads(found.removeprefix(MARK))}
    if result.get("measured"):
        result["error"] = guess / result["measured"] - 1
    return result


def _last_words(stderr: str, returncode: int) -> str:
    said = [line for line in stderr.splitlines() if line.strip()]
    if any("OutOfMemoryError" in line or "out of memory" in line for line in said):
        return "out of memory under the card's cap"
    return said[-1][:200] if said else f"exit {returncode}"


def take_steps(row: Row, scratch: Path, *, tiny: bool) -> dict[str, Any]:
    """Build, cap, train two steps, in this process."""
    import torch

    from benchmarks.gpu_parts.synthetic_pairs import full_pairs
    from benchmarks.gpu_parts.training_setup import Setup
    from benchmarks.gpu_parts.ways import OURS

    on_gpu = not tiny
    config = config_of(row)
    length = _TINY_LENGTH if tiny else config.max_seq_length
    if on_gpu:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((CARDS[row.card] - ASSUMED.cuda_context) / total)
    changed = {"max_seq_length": length, "max_steps": 2, "gradient_accumulation_steps": 1, "profile": "none"}
    if tiny:
        changed |= {"bf16": False, "activation_offloading": False}
    names = set(config.model_dump()) - {"model_name", "dataset", "gpus", "save_steps"}
    kept = {name: value for name, value in config.model_dump().items() if name in names}
    quiet = {"eval_split": 0.0, "sample_prompts": 0, "kl_prompts": 0}
    data = full_pairs(scratch / "pairs.jsonl", 2 * config.per_device_train_batch_size, length)
    setup = Setup.prepared(scratch, row.model, data, kept | changed | quiet, tiny=tiny)
    trainer = setup.trainer(OURS)
    began = time.perf_counter()
    trainer.train()
    seconds = (time.perf_counter() - began) / 2
    if not on_gpu:
        return {"step_seconds": seconds, "measured": None, "losses": _losses(trainer)}
    torch.cuda.synchronize()
    peak, allocated = torch.cuda.max_memory_reserved(), torch.cuda.max_memory_allocated()
    fixed = torch.cuda.memory_allocated()
    context, source = context_size()
    return {
        "measured": peak + context,
        "reserved": peak,
        "allocated": allocated,
        "fixed": fixed,
        "context": context,
        "context_from": source,
        "step_seconds": seconds,
        "losses": _losses(trainer),
    }


def context_size() -> tuple[int, str]:
    """Return bytes that this process holds besides PyTorch's allocator, and how that is known.

    NVML lists memory by process, which stays right while other rows run on the same GPU; where a container hides the
    list, it is what is missing on the whole card, right only for a process alone.
    """
    import os

    import torch

    from dpo_tui.hardware import nvml

    held = torch.cuda.memory_reserved()
    uuid = str(torch.cuda.get_device_properties(0).uuid)
    for gpu in nvml.read().gpus:
        if gpu.uuid and uuid in gpu.uuid:
            for holder in gpu.holders:
                if holder.pid == os.getpid() and holder.memory:
                    return holder.memory - held, "NVML's list of processes"
    return ASSUMED.cuda_context, "assumed: NVML does not list this process"


def _losses(trainer: Any) -> list[float]:
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def main() -> None:
    """Measure the row of a file."""
    description, scratch = Path(sys.argv[1]), Path(sys.argv[2])
    values = json.loads(description.read_text(encoding="utf-8"))
    tiny = values.pop("tiny")
    sys.stdout.write(MARK + json.dumps(take_steps(Row(**values), scratch, tiny=tiny)) + "\n")


if __name__ == "__main__":
    main()
