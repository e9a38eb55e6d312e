"""What a dataset costs before a run exists and in its worker: time, memory, and the rate of tokenising.

    DPO_TUI_REAL_DATA=… python benchmarks/data_at_size.py --model SMOLLM2 [--pairs 1000 100000 1000000] [--keep DIR]

For each number of pairs it makes the file of benchmarks/inspect_data.py, with --form the same pairs in another form and
with --kind in another kind of file, and measures, each in a fresh process: `datasets.load_dataset`, the check before a
run with an empty cache and again with what that left, and the worker's loading of the rows. Memory is anonymous
(Pss_Anon of smaps_rollup, at its peak): what a process maps from a file, and the system can drop, is not in it.
Tokenising is measured on the rows of the file that --tokenise names, after the tokenizer has been warmed up.
Prints Markdown tables for benchmarks/results/data_at_size.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import orjson
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))


Record = dict[str, Any]


def _conversations(row: Record) -> Record:
    def messages(answer: str) -> list[Record]:
        return [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": answer}]

    return {"chosen": messages(row["chosen"]), "rejected": messages(row["rejected"])}


def _ultrafeedback(number: int, row: Record) -> Record:
    scores = {"score_chosen": 8.0 + number % 3, "score_rejected": 6.5}
    return {"prompt": row["prompt"], "prompt_id": f"{number:032x}", **_conversations(row), **scores}


def _transcripts(row: Record) -> Record:
    beginning = f"\n\nHuman: {row['prompt']}\n\nAssistant: "
    return {"chosen": beginning + row["chosen"], "rejected": beginning + row["rejected"]}


FORMS: dict[str, Callable[[int, Record], Record]] = {
    "texts": lambda _, row: row,
    "messages": lambda _, row: _conversations(row),
    "ultrafeedback": _ultrafeedback,
    "transcripts": lambda _, row: _transcripts(row),
    "fourth-column": lambda number, row: {**row, "source": f"s{number % 7}"},
}
"""How a pair can be written, by the names of --form."""


KINDS = {"json": ".jsonl", "parquet": ".parquet", "csv": ".csv"}
"""Endings of files by the names of their readers in `datasets`."""


def _made_file(folder: Path, pairs: int, form: str, kind: str) -> Path:
    """The file of a number of pairs in a form and of a kind; made unless it is there."""
    lines = _made_lines(folder, pairs, form)
    file = lines.with_suffix(KINDS[kind])
    if file.exists():
        return file
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet

    options = pyarrow.json.ReadOptions(block_size=1 << 24)
    if kind == "csv":
        pyarrow.csv.write_csv(pyarrow.json.read_json(lines, read_options=options), file)
    else:
        reader = pyarrow.json.open_json(lines, read_options=options)
        with pyarrow.parquet.ParquetWriter(file, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
    return file


def _made_lines(folder: Path, pairs: int, form: str) -> Path:
    """The JSON lines of a number of pairs in a form; made unless they are there."""
    from inspect_data import make_file

    plain = folder / f"pairs-{pairs}.jsonl"
    if not plain.exists():
        make_file(plain, pairs, Path(os.environ["DPO_TUI_REAL_DATA"]))
    if form == "texts":
        return plain
    file = folder / f"{form}-{pairs}.jsonl"
    if not file.exists():
        with plain.open("rb") as lines, file.open("wb") as written:
            for number, line in enumerate(lines):
                written.write(orjson.dumps(FORMS[form](number, orjson.loads(line))) + b"\n")
    return file


@dataclass(frozen=True)
class Cost:
    """What one process took: seconds on the clock and of the processor, and its anonymous memory in MB, at its peak."""

    seconds: float
    processor: float
    peak: float
    more: dict[str, Any]


def measured(part: str, file: Path, given: argparse.Namespace, home: Path, held_out: float = 0.02) -> Cost:
    """Run a part of this file in a fresh process; its own figures leave its imports out."""
    environment = {**os.environ, "DPO_TUI_HOME": str(home), "TOKENIZERS_PARALLELISM": "true"}
    command = [sys.executable, __file__, "--part", part, "--file", str(file), "--model", given.model]
    command += ["--strategy", given.strategy]
    process = subprocess.Popen(
        [*command, "--held-out", str(held_out)], stdout=subprocess.PIPE, text=True, env=environment
    )
    peak, done = [0], threading.Event()

    def watch() -> None:
        root = psutil.Process(process.pid)
        while not done.wait(0.1):
            try:
                family = [root.pid, *(one.pid for one in root.children(recursive=True))]
                peak[0] = max(peak[0], sum(map(_anonymous, family)))
            except (psutil.Error, OSError, IndexError):  # it has ended
                continue

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    out, _ = process.communicate()
    done.set()
    thread.join()
    if process.returncode:
        raise SystemExit(f"{part} ended with {process.returncode}")
    found = json.loads(out.strip().splitlines()[-1])
    return Cost(found.pop("seconds"), found.pop("processor"), peak[0] / 1e6, found)


def _anonymous(pid: int) -> int:
    """Bytes of a process that no file holds; a page that forked processes share counts once among them."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.partition("Pss_Anon:")[2].split()[0]) * 1024


def _config(file: str, model: str, held_out: float, strategy: str) -> Any:
    from dpo_tui.config.files import LoadedConfig, from_values

    values = {"model_name": model, "dataset": file, "gpus": "none", "eval_split": held_out, "strategy": strategy}
    return LoadedConfig(from_values(values | ({"completion_only_loss": True} if strategy == "sft" else {})))


def _part(given: argparse.Namespace) -> dict[str, Any]:
    """What a child process does."""
    name, file = given.part, given.file
    if name == "load":
        import datasets

        datasets.disable_progress_bars()
        with tempfile.TemporaryDirectory(dir=Path(file).parent) as cache:
            kind = next(kind for kind, ending in KINDS.items() if file.endswith(ending))
            return _timed(lambda: datasets.load_dataset(kind, data_files=file, cache_dir=cache))[0]
    if name == "prepare":
        from dpo_tui.start.prepare import prepare

        loaded = _config(file, given.model, given.held_out, given.strategy)
        cost, found = _timed(lambda: prepare(loaded))
        return cost | {"usable": found.usable, "held_out": found.held_out, "dropped": len(found.dropped)}
    from dpo_tui.train.trainer.run_datasets import load_datasets

    config = _config(file, given.model, given.held_out, given.strategy).config
    if name == "worker":
        cost, rows = _timed(lambda: load_datasets(config))
        return cost | {"train": len(rows.train), "held": _anonymous(os.getpid()) / 1e6}
    return _tokenising(config, load_datasets(config))


def _tokenising(config: Any, rows: Any) -> dict[str, Any]:
    """The worker's tokenising, without a model: the method of its trainer, on a trainer that was not constructed."""
    from transformers import AutoTokenizer

    from dpo_tui.train.trainer.labelled_trainer import LabelledTrainer
    from dpo_tui.train.trainer.trainers import DemonstrationTrainer, PairTrainer

    classes = {"dpo": PairTrainer, "kto": LabelledTrainer, "sft": DemonstrationTrainer}
    tokenizer = AutoTokenizer.from_pretrained(config.model_name)
    ignored = SimpleNamespace(
        phase=lambda *_: None,
        event=lambda *_, **__: None,
        progress=lambda *_, **__: None,
        rank=SimpleNamespace(is_first=True, count=1, number=0),
    )
    chosen: Any = classes[config.strategy]
    trainer = chosen.__new__(chosen)
    trainer.config, trainer.journal, trainer._tokenizer = config, ignored, tokenizer
    trainer.calculate_KL, trainer.desirable_weight, trainer.undesirable_weight = True, 1.0, 1.0
    trainer.chat_template, trainer.completion_only_loss = None, config.completion_only_loss
    trainer._policy = trainer._reference = None
    trainer.check_rope = lambda *_: None
    trainer.stop_requests = SimpleNamespace(raise_if_stopped=lambda: None, stop_wanted=lambda: False)
    trainer.shortcuts = SimpleNamespace(reference=SimpleNamespace(on=False))
    arguments = SimpleNamespace(
        max_length=1024,
        truncation_mode="keep_start",
        dataset_num_proc=None,
        per_device_train_batch_size=4,
        assistant_only_loss=False,
        dataset_text_field="text",
        shuffle_dataset=False,
    )
    more = (False, None) if config.strategy == "sft" else ()
    trainer._prepare_dataset(rows.train.select(range(100)), tokenizer, arguments, *more, "train")
    cost, made = _timed(lambda: trainer._prepare_dataset(rows.train, tokenizer, arguments, *more, "train"))
    return cost | {"pairs": len(rows.train), "kept": len(made)}


def _timed(function: Any) -> tuple[dict[str, Any], Any]:
    start, used = time.perf_counter(), _processor_seconds()
    found = function()
    return {"seconds": time.perf_counter() - start, "processor": _processor_seconds() - used}, found


def _processor_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _tables(given: argparse.Namespace, folder: Path, home: Path) -> None:
    import shutil

    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    print(
        f"{given.form}, {given.kind}: {cores} cores, load average {load:.1f} at the start, median of {given.repeat}\n"
    )
    print("| pairs | what | seconds | ratio | processor s | ratio | memory at its peak |")
    print("|---:|---|---:|---:|---:|---:|---:|")
    for pairs in given.pairs:
        file = _made_file(folder, pairs, given.form, given.kind)
        found: dict[str, list[Cost]] = {}
        for _ in range(given.repeat):
            shutil.rmtree(home, ignore_errors=True)
            for what in ("load", "prepare", "prepare again", "worker"):
                found.setdefault(what, []).append(measured(what.split()[0], file, given, home))
        base = median(one.seconds for one in found["load"])
        base_processor = median(one.processor for one in found["load"])
        for what, costs in found.items():
            seconds, processor = median(one.seconds for one in costs), median(one.processor for one in costs)
            peak = median(one.peak for one in costs)
            ratios = seconds / base, processor / base_processor
            print(
                f"| {pairs:,} | {what} | {seconds:.2f} | {ratios[0]:.2f} | {processor:.2f} | {ratios[1]:.2f} "
                f"| {peak:,.0f} MB |"
            )
    if given.tokenise:
        file = _made_file(folder, given.tokenise, given.form, given.kind)
        costs = []
        for _ in range(given.repeat):
            shutil.rmtree(home, ignore_errors=True)
            costs.append(measured("tokenise", file, given, home))
        pairs = costs[0].more["pairs"]
        seconds, processor = median(one.seconds for one in costs), median(one.processor for one in costs)
        print(
            f"\nTokenising {pairs:,} pairs: {pairs / seconds:,.0f} pairs a second on the clock, "
            f"{pairs / processor:,.0f} a processor second, {median(one.peak for one in costs):,.0f} MB."
        )


def main() -> None:
    """Run the benchmark."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--pairs", type=int, nargs="*", default=[1000, 100_000, 1_000_000])
    arguments.add_argument("--form", choices=list(FORMS), default="texts", help="how the pairs are written")
    arguments.add_argument("--kind", choices=list(KINDS), default="json", help="of the file")
    arguments.add_argument("--tokenise", type=int, default=20_000)
    arguments.add_argument("--model", required=True)
    arguments.add_argument("--keep", type=Path, help="keep the synthetic files in this folder, and use them again")
    arguments.add_argument("--strategy", choices=["dpo", "kto", "sft"], default="dpo")
    arguments.add_argument("--repeat", type=int, default=3)
    arguments.add_argument("--part", help=argparse.SUPPRESS)
    arguments.add_argument("--file", help=argparse.SUPPRESS)
    arguments.add_argument("--held-out", type=float, default=0.02)
    given = arguments.parse_args()
    if given.part:
        print(json.dumps(_part(given)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        _tables(given, folder, Path(scratch) / "home")


if __name__ == "__main__":
    main()
