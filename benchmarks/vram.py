"""Estimated against measured GPU memory over all kinds of models: real architectures with random weights.

    python benchmarks/vram.py                 every row, on the GPU; writes benchmarks/results/vram.md
    python benchmarks/vram.py --only Qwen     rows whose model's name contains this
    python benchmarks/vram.py --smoke         a tiny row on the CPU, to see that this program runs; measures nothing

`benchmarks/gpu_parts/memory_row.py` measures a row and says what the figures mean. Part c of `benchmarks/gpu.py` is a
shorter table, for little time.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.gpu_parts.machine import describe
from benchmarks.gpu_parts.memory_row import Row, config_of, estimated, measured
from benchmarks.gpu_parts.random_models import LLAMA_8B, SMOLLM2
from benchmarks.gpu_parts.session import in_words
from dpo_tui.hardware.memory.memory_estimate import GB
from dpo_tui.hardware.models.lookup import known_models
from dpo_tui.hardware.profiles import SETTINGS

RESULTS = Path(__file__).with_name("results") / "vram.md"
ROW_SECONDS = 420
LLAMA_1B = "meta-llama/Llama-3.2-1B-Instruct"
Result = Mapping[str, Any]


def rows() -> list[Row]:
    """The presets on the cards that they are for, then single settings varied on several families."""
    found = [
        Row(LLAMA_8B, 12, dict(SETTINGS["mid-range"]), "mid-range"),
        Row("Qwen/Qwen2.5-7B-Instruct", 12, dict(SETTINGS["mid-range"]), "mid-range"),
        Row("mistralai/Mistral-7B-Instruct-v0.3", 12, dict(SETTINGS["mid-range"]), "mid-range"),
        Row(LLAMA_8B, 16, dict(SETTINGS["high-end"]), "high-end"),
        Row("Qwen/Qwen3-8B", 16, dict(SETTINGS["high-end"]), "high-end"),
        Row(LLAMA_8B, 24, dict(SETTINGS["high-end"]), "high-end"),
    ]
    small = {"use_4bit": True, "lora_r": 16}
    for model in ("HuggingFaceTB/SmolLM2-135M", "Qwen/Qwen2.5-0.5B-Instruct", LLAMA_1B, "Qwen/Qwen2.5-1.5B-Instruct"):
        found.append(Row(model, 12, small))
        found.append(Row(model, 12, {**small, "use_4bit": False}))
    found += [
        Row("google/gemma-3-1b-it", 12, small),
        Row("google/gemma-2-2b-it", 12, small),
        Row("microsoft/Phi-4-mini-instruct", 12, small),
        Row("allenai/OLMo-2-1124-7B-SFT", 16, small),
        Row(LLAMA_1B, 24, {**small, "gradient_checkpointing": False}),
        Row(LLAMA_1B, 24, {"use_lora": False}),
        Row("Qwen/Qwen2.5-0.5B-Instruct", 24, {"use_lora": False, "precompute_ref_log_probs": "on"}),
        Row(LLAMA_8B, 24, {**small, "max_seq_length": 4096, "per_device_train_batch_size": 1}),
        Row(LLAMA_8B, 12, {**small, "optim": "paged_adamw_8bit", "lora_r": 64}),
    ]
    return found


def table(results: list[tuple[Row, Result]], machine: str) -> str:
    """The results page."""
    ratios, lines = [], []
    for row, result in results:
        config = config_of(row)
        figures = f"{estimated(row) / GB:.2f} | {result.get('failure', '—')} | | "
        if result.get("measured"):
            ratios.append(abs(result["error"]))
            figures = (
                f"{result['estimated'] / GB:.2f} | {result['measured'] / GB:.2f} | {result['error']:+.1%} | "
                f"{result['context'] / GB:.2f}"
            )
        shape = f"{config.per_device_train_batch_size} × {config.max_seq_length}"
        kind = ("NF4" if config.use_4bit else "bf16") if config.use_lora else "full, fp32"
        rank = str(config.lora_r) if config.use_lora else "—"
        extra = f"{row.preset} preset" if row.preset else "" if config.gradient_checkpointing else "no checkpointing"
        extra = extra or (config.optim if config.optim != "adamw_torch" else "")
        lines.append(
            f"| {row.model.rpartition('/')[2]} | {kind} | {rank} | {shape} | {row.card} | {extra} | {figures} |"
        )
    summary = "Nothing was measured."
    if ratios:
        within = sum(ratio <= 0.10 for ratio in ratios)
        summary = (
            f"{len(ratios)} rows measured: median error {statistics.median(ratios):.1%}, worst {max(ratios):.1%}, "
            f"{within} within 10 %."
        )
    return "\n".join(
        [
            "# GPU memory: estimated against measured",
            "",
            f"`python benchmarks/vram.py` on {machine}, the allocator capped at each card's memory.",
            "Decimal GB. Measured = the allocator's peak + the CUDA context; error = estimated ÷ measured − 1.",
            "",
            summary,
            "",
            "| model | weights | rank | pairs × tokens | card | | estimated | measured | error | context |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *lines,
            "",
        ]
    )


def run_row(row: Row, scratch: Path, *, tiny: bool = False) -> Result:
    """Measure a row; a failure is a result too."""
    try:
        return measured(row, scratch, seconds=ROW_SECONDS, tiny=tiny)
    except (RuntimeError, TimeoutError) as error:
        return {"failure": in_words(error)}


def main() -> int:
    """Run the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose model's name contains this")
    parser.add_argument("--smoke", action="store_true", help="a tiny row on the CPU")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory(prefix="dpo-tui-vram-") as scratch:
        if given.smoke:
            result = run_row(Row(SMOLLM2, 12, {"use_4bit": True}), Path(scratch), tiny=True)
            print(f"smoke: {result}")
            return 1 if "failure" in result else 0
        chosen = [row for row in rows() if given.only.lower() in row.model.lower()]
        missing = [row.model for row in chosen if row.model not in known_models()]
        if missing:
            print(f"not in the shipped table: {', '.join(missing)}")
            return 2
        if not has_gpu():
            print("torch sees no GPU here: nothing can be measured, and nothing was written")
            return 1
        found = describe()
        machine = f"{found['gpus'][0]}, torch {found['torch']}"
        results: list[tuple[Row, Result]] = []
        for number, row in enumerate(chosen, start=1):
            results.append((row, run_row(row, Path(scratch))))
            print(f"{number}/{len(chosen)} {row.name}: {results[-1][1]}", flush=True)
            # After every row: an interrupted run keeps its results.
            given.out.write_text(table(results, machine), encoding="utf-8")
    print(table(results, machine))
    return 0


def has_gpu() -> bool:
    """Whether torch can use a GPU; asked in a child, so that this process holds no context on it."""
    script = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 1)"
    return subprocess.run([sys.executable, "-c", script], check=False, capture_output=True).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
