"""Measure the inspection of a million pairs against what loading them takes.

    DPO_TUI_REAL_DATA=… python benchmarks/inspect_data.py [--pairs 1000000] [--model DIR] [--keep DIR]

Makes a synthetic JSON Lines file from the two real ones (about 1 kB a pair, every prompt made different), then measures
in one run: `datasets.load_dataset("json")`, the whole scan with every check but tokens, the first 100 rows, and, with
--model, exact token lengths. Prints the Markdown table of benchmarks/results/inspect.md.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dpo_tui.data.index import first_pairs
from dpo_tui.data.pairs import text_of
from dpo_tui.data.read import load_pairs
from dpo_tui.data.scan_process import ScanProcess
from dpo_tui.data.scan_request import ScanRequest
from dpo_tui.data.source import Source


def make_file(target: Path, pairs: int, real: Path) -> None:
    """Write the synthetic file: 3 % long pairs of the demo, the rest from hh-harmless."""

    def texts(name: str) -> list[tuple[str, str, str]]:
        loaded = load_pairs(Source(str(real / name))).pairs
        return [(text_of(one.prompt), text_of(one.chosen), text_of(one.rejected)) for one in loaded]

    short, long = texts("hh-harmless-test.jsonl.gz"), texts("dpo-en-demo.json")
    chance = random.Random(0)
    with target.open("wb") as file:
        for number in range(pairs):
            prompt, chosen, rejected = chance.choice(long if chance.random() < 0.03 else short)
            row = {"prompt": f"{prompt} ({number})", "chosen": chosen, "rejected": rejected}
            file.write(orjson.dumps(row) + b"\n")


class PeakMemory:
    """Watches the memory of a process and its children: proportional set size, so that shared pages count once."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._process = psutil.Process(pid)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """The peak in bytes."""
        self._done.set()
        self._thread.join()
        return self.peak

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            try:
                family = [self._process, *self._process.children(recursive=True)]
                self.peak = max(self.peak, sum(one.memory_full_info().pss for one in family))
            except psutil.Error:
                continue


def load_with_datasets(file: Path) -> tuple[float, int]:
    """Seconds of `load_dataset` in a fresh process, imports not counted, and the peak memory of that process."""
    code = (
        "import sys, time, tempfile, datasets\n"
        "datasets.disable_progress_bars()\n"
        "with tempfile.TemporaryDirectory(dir=sys.argv[2]) as cache:\n"
        "    start = time.perf_counter()\n"
        "    datasets.load_dataset('json', data_files=sys.argv[1], cache_dir=cache)\n"
        "    print(time.perf_counter() - start)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(file), str(file.parent)], stdout=subprocess.PIPE, text=True
    )
    memory = PeakMemory(process.pid)
    out, _ = process.communicate()
    return float(out.strip().splitlines()[-1]), memory.stop()


def scan(file: Path, model: str | None = None) -> tuple[float, int, dict[str, float]]:
    """Seconds from the request to the report, peak memory, and when each kind of event first came."""
    start = time.perf_counter()
    seen: dict[str, float] = {}
    with ScanProcess(ScanRequest(Source(str(file)), model=model, max_length=1024 if model else None)) as process:
        memory = PeakMemory(process.pid)
        for event in process.events():
            name = event["event"] if event["event"] != "progress" else event["phase"]
            seen.setdefault(name, time.perf_counter() - start)
            seen[f"last {name}"] = time.perf_counter() - start
        return time.perf_counter() - start, memory.stop(), seen


def timed(function: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    """Run the benchmark."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--pairs", type=int, default=1_000_000)
    arguments.add_argument("--model", help="also count tokens with this model's tokenizer, on a tenth of the pairs")
    arguments.add_argument("--keep", type=Path, help="keep the synthetic files in this folder, and use them again")
    arguments.add_argument("--repeat", type=int, default=2, help="best of so many runs, alternating")
    given = arguments.parse_args()
    real = Path(os.environ["DPO_TUI_REAL_DATA"])
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["DPO_TUI_HOME"] = str(Path(scratch) / "home")
        folder = given.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"pairs-{given.pairs}.jsonl"
        if not file.exists():
            make_file(file, given.pairs, real)
        rounds = [(load_with_datasets(file), scan(file)) for _ in range(given.repeat)]
        loaded, load_memory = min(one for one, _ in rounds)
        scanned, scan_memory, _ = min((one for _, one in rounds), key=lambda one: one[0])
        first = min(timed(lambda: first_pairs(Source(str(file)), 100)) for _ in range(3))
        load = os.getloadavg()[0]
        print(f"{given.pairs:,} pairs, {file.stat().st_size / 1e9:.2f} GB, load average {load:.1f}\n")
        print("| what | seconds | ratio | peak memory | aim |")
        print("|---|---:|---:|---:|---|")
        print(f'| `datasets.load_dataset("json")` | {loaded:.2f} | 1.00 | {load_memory / 1e6:.0f} MB | |')
        ratio = f"{scanned / loaded:.2f}"
        print(
            f"| scan, every check but tokens | {scanned:.2f} | {ratio} | {scan_memory / 1e6:.0f} MB | ≤ 1.0, ≤ 400 MB |"
        )
        print(f"| first 100 rows | {first:.3f} | | | ≤ 0.2 s |")
        if given.model:
            small = folder / f"pairs-{given.pairs // 10}.jsonl"
            if not small.exists():
                make_file(small, given.pairs // 10, real)
            seconds, memory, seen = scan(small, given.model)
            counting = seconds - seen["partial"]
            rate = given.pairs / 10 / counting * 60 / len(os.sched_getaffinity(0))
            name = f"exact tokens of {given.pairs // 10:,} pairs"
            print(f"| {name} | {counting:.1f} | {rate:,.0f} pairs/min/core | {memory / 1e6:.0f} MB | ≥ 100,000 |")


if __name__ == "__main__":
    main()
