"""What the apparatus costs: step time under dpo-tui against a plain TRL script with the same arguments.

First the apparatus alone: what its callback does at every step, which is all that is added to the loop; that figure
does not depend on what else the machine does. Then whole runs: both train the same model on the same rows in processes
of their own, alternating, and Trainer's own clock (`train_runtime`, from the first step to the last) is compared;
loading and start-up are not in it.

    python benchmarks/overhead.py --model DIR --data pairs.jsonl [--steps 20] [--repeats 5]
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from dpo_tui.config.files import from_values, parse_assignment
from dpo_tui.config.toml_text import to_toml
from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.source.source import Source
from dpo_tui.runs import start_run, store
from dpo_tui.runs.metrics_reader import MetricsTail
from dpo_tui.runs.status import status_of

PLAIN = """
import json, sys
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer
model, rows, steps, out = sys.argv[1:]
rows = json.load(open(rows))
tokenizer = AutoTokenizer.from_pretrained(model)
trainer = DPOTrainer(
    model=AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
    args=DPOConfig(
        output_dir=out, max_steps=int(steps), per_device_train_batch_size=2, gradient_accumulation_steps=1,
        learning_rate=5e-6, max_length=256, logging_steps=1, save_strategy="no", report_to="none", use_cpu=True,
        bf16=False, dataloader_pin_memory=False, warmup_steps=0.1, seed=42, disable_tqdm=True,
    ),
    train_dataset=Dataset.from_dict(rows),
    processing_class=tokenizer,
    peft_config=LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear"),
)
print("RUNTIME", trainer.train().metrics["train_runtime"])
"""


def plain_seconds(model: Path, rows: Path, steps: int) -> float:
    """Train with TRL alone."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", PLAIN, str(model), str(rows), str(steps), out]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return next(float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("RUNTIME"))


def our_seconds(model: Path, data: Path, steps: int, changes: dict[str, object]) -> float:
    """Train through a supervised run, with checkpoints off the clock as in the plain script."""
    values: dict[str, object] = {
        "model_name": str(model),
        "dataset": str(data),
        "max_steps": steps,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "learning_rate": 5e-6,
        "max_seq_length": 256,
        "eval_split": 0.0,
        "sample_prompts": 0,
        "save_steps": 1_000_000,
        "gpus": "none",
    }
    folder = store.create(to_toml(from_values(values | changes)), name="overhead", devices=[])
    start_run.start(folder)
    while not (status := status_of(folder)).over:
        time.sleep(0.2)
    if status.status != "done":
        raise SystemExit(f"the run ended {status.status}: {status.reason}")
    lines = MetricsTail(folder.metrics).poll()
    return next(line["train_runtime"] for line in lines if "train_runtime" in line)


def callback_seconds(steps: int = 2000) -> float:
    """What the callback costs a step: clocks, requests, a line of metrics, progress."""
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from dpo_tui.train.trainer.callbacks import RunCallback
    from dpo_tui.train.worker.journal import Journal
    from dpo_tui.train.worker.stop_requests import StopRequests

    config = from_values({"model_name": "none", "dataset": "none"})
    folder = store.create(to_toml(config), name="callback", devices=[])
    callback = RunCallback(Journal(folder), StopRequests(folder), keep_checkpoints=2)
    args, state, control = TrainingArguments(output_dir=str(folder.checkpoints)), TrainerState(), TrainerControl()
    state.max_steps = steps
    logs = {f"metric/{number}": 0.5 for number in range(14)} | {"loss": 0.5, "num_tokens": 1.0}
    began = time.perf_counter()
    for step in range(1, steps + 1):
        state.global_step = step
        callback.on_step_begin(args, state, control)
        callback.on_step_end(args, state, control)
        callback.on_log(args, state, control, logs=dict(logs))
    return (time.perf_counter() - began) / steps


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of ours")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["DPO_TUI_HOME"] = str(Path(scratch, "home"))
        pairs = load_pairs(Source(str(chosen.data))).pairs
        rows = Path(scratch, "rows.json")
        rows.write_text(
            json.dumps({name: [getattr(pair, name) for pair in pairs] for name in ("prompt", "chosen", "rejected")})
        )
        alone = callback_seconds()
        changes = dict(parse_assignment(text) for text in chosen.set)
        plain, ours = [], []
        for _ in range(chosen.repeats):
            plain.append(plain_seconds(chosen.model, rows, chosen.steps) / chosen.steps)
            ours.append(our_seconds(chosen.model, chosen.data, chosen.steps, changes) / chosen.steps)
    ratios = [one / other for one, other in zip(ours, plain, strict=True)]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, ", end="")
    print(", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "peft")))
    print(f"{chosen.repeats} repeats of {chosen.steps} steps, alternating; load {os.getloadavg()[0]:.1f}\n")
    print(f"the callback alone: {alone * 1000:.2f} ms a step\n")
    print("| | median s/step | min | max |\n|---|---|---|---|")
    for name, seconds in (("plain TRL", plain), ("dpo-tui", ours)):
        print(f"| {name} | {statistics.median(seconds):.4f} | {min(seconds):.4f} | {max(seconds):.4f} |")
    print(f"\nratio dpo-tui / plain TRL: median {statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f})")


if __name__ == "__main__":
    main()
