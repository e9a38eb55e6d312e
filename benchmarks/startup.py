"""From the command to the first step, ours and `trl dpo`'s, with the same model, rows and arguments.

    DPO_TUI_REAL_DATA=… python benchmarks/startup.py --model SMOLLM2 [--repeats 3] >results.md

Both read the same 32 rows from a file, with nothing in any cache of tokens; they take turns. The first sign of life is
the first byte that either writes. A step is over when its numbers are written.
"""

import argparse
import gzip
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROWS = 32
PACKAGES = ("torch", "transformers", "trl", "peft", "datasets")


def write_rows(target: Path) -> None:
    """Write the first rows of hh-harmless."""
    real = Path(os.environ["DPO_TUI_REAL_DATA"]) / "hh-harmless-test.jsonl.gz"
    with gzip.open(real, "rt", encoding="utf-8") as source:
        target.write_text("".join(next(source) for _ in range(ROWS)), encoding="utf-8")


def ours(model: str, rows: Path, place: Path) -> list[str]:
    """Return the command of our training."""
    config = place / "config.toml"
    config.write_text(
        f"model_name = {json.dumps(model)}\ndataset = {json.dumps(str(rows))}\n"
        "per_device_train_batch_size = 2\ngradient_accumulation_steps = 1\nmax_steps = 1\nmax_seq_length = 512\n"
        "learning_rate = 5e-6\neval_split = 0\nkl_prompts = 0\nsample_prompts = 0\n"
    )
    return [sys.executable, "-c", "from dpo_tui.cli import main; main()", "train", str(config)]


def trl(model: str, rows: Path, place: Path) -> list[str]:
    """Return the command of TRL's training."""
    program = shutil.which("trl", path=str(Path(sys.executable).parent)) or "trl"
    command = f"dpo --model_name_or_path {model} --dataset_name {rows.parent} --output_dir {place / 'out'} --use_peft"
    command += " --lora_r 16 --per_device_train_batch_size 2 --gradient_accumulation_steps 1 --max_steps 1"
    command += (
        " --max_length 512 --logging_steps 1 --report_to none --learning_rate 5e-6 --save_strategy no --bf16 False"
    )
    return [program, *command.split()]


def measure(command: list[str], mark: str, environment: dict[str, str]) -> tuple[float, float]:
    """Return the seconds until the first byte, and until a line with the mark is written."""
    began, first = time.perf_counter(), 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as process:
        said = b""
        while block := os.read(process.stdout.fileno(), 1 << 16):
            first = first or time.perf_counter() - began
            said += block
            if mark.encode() in said:
                seconds = time.perf_counter() - began
                process.communicate()
                return first, seconds
    raise SystemExit(said.decode(errors="replace"))


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {"trl dpo": [], "dpo-tui train": []}
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    for _ in range(given.repeats):
        for name, command, mark in (("trl dpo", trl, "'loss'"), ("dpo-tui train", ours, "step 1 ")):
            with tempfile.TemporaryDirectory() as folder:
                place = Path(folder)
                (place / "data").mkdir()
                rows = place / "data" / "train.jsonl"
                write_rows(rows)
                own = {"DPO_TUI_HOME": folder, "HF_DATASETS_CACHE": f"{folder}/cache", "PYTHONPATH": str(ROOT)}
                environment = os.environ | own | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
                found[name].append(measure(command(given.model, rows, place), mark, environment))
    print("# From the command to the first step\n\n    python benchmarks/startup.py " + " ".join(sys.argv[1:]) + "\n")
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    print(f"{os.cpu_count()} cores, no GPU; Python {platform.python_version()}, {packages}. Load average {load}.")
    print(
        f"{Path(given.model).name}, LoRA, {ROWS} rows of hh-harmless, batch 2. Medians of {given.repeats}, in turn.\n"
    )
    print("| | first sign of life | first step done |\n|---|---:|---:|")
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    for name, (first, step) in medians.items():
        print(f"| `{name}` | {first:.2f} s | {step:.1f} s |")
    ratios = [theirs / mine for theirs, mine in zip(medians["trl dpo"], medians["dpo-tui train"], strict=True)]
    print(f"| ratio | {ratios[0]:.1f} | {ratios[1]:.2f} |")
    print("\nThe aims: 0.5 s and 9 s.")


if __name__ == "__main__":
    main()
