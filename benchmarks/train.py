"""Training time against plain TRL, on real pairs, with the difference of the losses beside it.

    DPO_TUI_REAL_DATA=… python benchmarks/train.py --model SMOLLM2 [--pairs 24] [--repeats 3] >results.md

Every measurement is a process of its own; the ways take turns, so that a change of the machine's pace meets all of
them. All get the same arguments (`dpo_tui.train.trainer.trainer_registry`), the same rows and the same seed:

- `trl`: TRL's DPOTrainer, as `trl dpo` builds it;
- `trl, precompute`: the same with precompute_ref_log_probs;
- `ours`: the trainer that `dpo-tui train` builds from a plain config.

The clock runs from the first reference score to the last step: our check and every precompute pass are in it; loading
and tokenising, which are the same, are not. Processor time is the steadier figure on a machine that others use too.
"""

import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.gpu_parts.machine import processor

WAYS = ("trl", "trl, precompute", "ours")
DATA = {"hh-harmless": "hh-harmless-test.jsonl.gz", "dpo-en-demo": "dpo-en-demo.json"}
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    data: str
    batch: int
    epochs: int


def sample(source: Path, pairs: int, target: Path) -> None:
    """Write evenly spaced rows of a data file as JSONL, so that a short run sees the whole range of lengths."""
    content = gzip.decompress(source.read_bytes()) if source.suffix == ".gz" else source.read_bytes()
    rows = json.loads(content) if ".json" in source.suffixes else [json.loads(line) for line in content.splitlines()]
    step = len(rows) / pairs
    chosen = [rows[int(number * step)] for number in range(pairs)]
    target.write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")


def measure(way: str, case: Case, model: str, length: int) -> dict[str, Any]:
    """Train in this process; return seconds, losses and tokens."""
    import torch

    from benchmarks.gpu_parts.clock import PreparationClock, now
    from benchmarks.gpu_parts.ways import OURS, TRL, TRL_PRECOMPUTE, trainer_of
    from dpo_tui.config.files import from_values
    from dpo_tui.config.toml_text import to_toml
    from dpo_tui.runs import store
    from dpo_tui.train.model.device import choose_device
    from dpo_tui.train.model.load import load_model, load_tokenizer
    from dpo_tui.train.trainer.run_datasets import load_datasets
    from dpo_tui.train.trainer.trainers import shortcuts_of

    config = from_values(
        {
            "model_name": model,
            "dataset": case.data,
            "max_seq_length": length,
            "per_device_train_batch_size": case.batch,
            "gradient_accumulation_steps": max(1, 8 // case.batch),
            "num_train_epochs": case.epochs,
            "learning_rate": 5e-6,
            "eval_split": 0.0,
            "sample_prompts": 0,
            "kl_prompts": 0,
            "gpus": "auto" if torch.cuda.is_available() else "none",
            "save_steps": 1_000_000,
        }
    )
    folder = store.create(to_toml(config), name="benchmark", devices=[])
    device = choose_device(config)
    rows, tokenizer = load_datasets(config), load_tokenizer(config)[0]
    clock = PreparationClock.installed()
    trainer = trainer_of(
        next(one for one in (TRL, TRL_PRECOMPUTE, OURS) if one.name == way),
        config,
        folder,
        device,
        model=load_model(config, device),
        tokenizer=tokenizer,
        rows=rows,
    )
    start = now()
    trainer.train()
    training = [after - before for before, after in zip(start, now(), strict=True)]
    log = [line for line in trainer.state.log_history if "loss" in line]
    return {
        "wall": clock.wall + training[0],
        "cpu": clock.cpu + training[1],
        "losses": [line["loss"] for line in log],
        "tokens": log[-1]["num_tokens"],
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None,
        "shortcuts": shortcuts_of(trainer),
    }


def in_a_process(way: str, given: argparse.Namespace, case: Case, data: Path) -> dict[str, Any]:
    """Measure in a fresh process with an empty cache."""
    command = [sys.executable, __file__, "--one", way, "--model", given.model, "--data-file", str(data)]
    command += ["--batch", str(case.batch), "--epochs", str(case.epochs), "--length", str(given.length)]
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"DPO_TUI_HOME": home, "HF_DATASETS_CACHE": f"{home}/datasets"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    line = next(line for line in done.stdout.splitlines() if line.startswith("MEASURED "))
    found: dict[str, Any] = json.loads(line.removeprefix("MEASURED "))
    return found


def cases(given: argparse.Namespace) -> Iterator[Case]:
    """Return the lines of the table."""
    for data in given.data.split(","):
        for batch in map(int, given.batches.split(",")):
            for epochs in map(int, given.epochs.split(",")):
                yield Case(data, batch, epochs)


def row(case: Case, found: dict[str, list[dict[str, Any]]], unit: str) -> str:
    """Return one line: medians, ratios to ours and the largest difference of a loss."""
    medians = {way: statistics.median(one[unit] for one in found[way]) for way in WAYS}
    ours = medians["ours"]
    times = " | ".join(f"{medians[way]:.0f}" for way in WAYS)
    ratios = " | ".join(f"**{medians[way] / ours:.2f}**" for way in WAYS[:2])
    apart = max(
        abs(mine - theirs) for mine, theirs in zip(found["ours"][0]["losses"], found["trl"][0]["losses"], strict=True)
    )
    said = found["ours"][0]["shortcuts"]
    saved = f"{said['share_prefix']['saved']:.0%}, {said['labelled_head']['saved']:.0%}"
    once = "yes" if said["reference_once"]["on"] else "no"
    return f"| {case.data} | {case.batch} | {case.epochs} | {times} | {ratios} | {saved} | {once} | {apart:.0e} |"


def machine() -> str:
    """Describe where this runs, and who else does."""
    import torch

    name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else processor()
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    threads = torch.get_num_threads()
    return (
        f"{name}, {os.cpu_count()} cores, {threads} thread(s) for torch; Python {platform.python_version()}, "
        f"{packages}. Load average at the start: {load}."
    )


def report(given: argparse.Namespace) -> None:
    """Measure everything and print Markdown."""
    folder = Path(os.environ["DPO_TUI_REAL_DATA"])
    print("# Training time against plain TRL\n\n    python benchmarks/train.py " + " ".join(sys.argv[1:]) + "\n")
    print(machine())
    print(
        f"\n{Path(given.model).name}, LoRA, {given.pairs} evenly spaced pairs, max length {given.length}, "
        f"effective batch 8, medians of {given.repeats}. "
        "Saved: tokens through the backbone, positions through the LM head.\n"
    )
    units = {"cpu": "Processor seconds", "wall": "Seconds on the clock"}
    tables: dict[str, list[str]] = {unit: [] for unit in units}
    with tempfile.TemporaryDirectory() as place:
        for case in cases(given):
            data = Path(place) / f"{case.data}.jsonl"
            sample(folder / DATA[case.data], given.pairs, data)
            found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
            for _ in range(given.repeats):
                for way in WAYS:
                    found[way].append(in_a_process(way, given, case, data))
                    print(f"{case} {way}: {found[way][-1]['cpu']:.0f} s", file=sys.stderr)
            for unit, lines in tables.items():
                lines.append(row(case, found, unit))
    columns = ("data", "batch", "epochs", "TRL", "TRL, precompute", "ours", "TRL ÷ ours", "precompute ÷ ours", "saved")
    head = "| " + " | ".join((*columns, "once", "losses differ")) + " |"
    for unit, words in units.items():
        print(f"## {words}\n\n{head}\n|" + "---|" * head.count("| "), *tables[unit], sep="\n")
        print()


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--data", default="hh-harmless,dpo-en-demo")
    parser.add_argument("--batches", default="2,4")
    parser.add_argument("--epochs", default="1,3")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--data-file", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        case = Case(given.data_file, given.batch, int(given.epochs))
        found = measure(given.one, case, given.model, given.length)
        print("MEASURED " + json.dumps(found))
    else:
        report(given)


if __name__ == "__main__":
    main()
