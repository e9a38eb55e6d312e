"""Measure the inspection of a million pairs against what loading them takes.

    DPO_TUI_REAL_DATA=… python benchmarks/inspect_data.py [--pairs 1000000] [--model DIR] [--keep DIR]

Makes a synthetic JSON Lines file from the two real ones (about 1 kB a pair, every prompt made different), then measures
in one run: `datasets.load_dataset("json")`, the whole scan with every check but tokens, the first 100 rows, and, with
--model, exact token lengths. Prints the Markdown table of benchmarks/results/inspect.md.

A second file of as many pairs has bad rows of every kind, a share of --bad in each of the ways of BAD_ROWS.
`load_dataset` cannot read it, so its scan is compared with loading the first one.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.pairs.pair import text_of
from dpo_tui.data.scan.row_index import preview_rows
from dpo_tui.data.scan.scan_process import ScanProcess, ScanRequest
from dpo_tui.data.source.source import Source


def _changed(**columns: object) -> Callable[[dict[str, str]], bytes]:
    """What makes a line of a row with other values in some columns."""
    return lambda row: orjson.dumps(row | columns)


BAD_ROWS: dict[str, tuple[Callable[[dict[str, str]], bytes], ...]] = {
    "bad-json": (
        lambda row: orjson.dumps(row)[:-9],
        lambda row: orjson.dumps(row) + b",",
        lambda row: orjson.dumps(row).replace(b'"prompt":"', b'"prompt":"\xff'),
        lambda row: b"null",
    ),
    "missing-field": (
        lambda row: orjson.dumps({"prompt": row["prompt"], "chosen": row["chosen"]}),
        _changed(rejected=None),
        _changed(chosen={"score": 7}),
        _changed(prompt=" "),
        lambda row: b"[1]",
    ),
    "empty-answer": (_changed(chosen=""), _changed(rejected=" \n")),
    "identical": (lambda row: orjson.dumps(row | {"rejected": row["chosen"]}),),
    "tie": (_changed(status="tie"),),
    "role-order": (_changed(chosen=[{"role": "user", "content": "No answer."}]),),
    "repeated-key": (lambda row: b'{"prompt":"An older prompt.",' + orjson.dumps(row)[1:],),
    "not-a-number": (lambda row: json.dumps(row | {"score": float("nan")}).encode(),),
}
"""The ways in which a line can be bad, by the check that finds it: each makes a bad line of a good row."""


def make_file(target: Path, pairs: int, real: Path, bad: float = 0.0) -> None:
    """Write the synthetic file: 3 % long pairs of the demo, the rest from hh-harmless.

    Args:
        target: the file.
        pairs: how many lines.
        real: the folder of the real files.
        bad: the share of the lines that is bad in each of the ways of BAD_ROWS.
    """

    def texts(name: str) -> list[tuple[str, str, str]]:
        loaded = load_pairs(Source(str(real / name))).pairs
        return [(text_of(one.prompt), text_of(one.chosen), text_of(one.rejected)) for one in loaded]

    short, long = texts("hh-harmless-test.jsonl.gz"), texts("dpo-en-demo.json")
    chance = random.Random(0)
    ways = [way for found in BAD_ROWS.values() for way in found]
    with target.open("wb") as file:
        for number in range(pairs):
            prompt, chosen, rejected = chance.choice(long if chance.random() < 0.03 else short)
            row = {"prompt": f"{prompt} ({number})", "chosen": chosen, "rejected": rejected}
            # Drawn only where it matters, so that a file without bad rows is the one of earlier measurements.
            way = int(chance.random() / bad) if bad else len(ways)
            file.write((ways[way](row) if way < len(ways) else orjson.dumps(row)) + b"\n")


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
            except psutil.Error:
                continue
            self.peak = max(self.peak, sum(map(_held, family)))


def _held(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:  # it ended just now
        return 0


def _processor_seconds() -> float:
    """Processor time of all children that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass(frozen=True)
class Measured:
    """One measurement.

    Args:
        seconds: on the clock.
        processor: seconds of processor time, all processes together; what other work on the machine changes least.
        memory: peak bytes of all processes together.
    """

    seconds: float
    processor: float
    memory: int


def load_with_datasets(file: Path) -> Measured:
    """`load_dataset` in a fresh process, imports not counted."""
    code = (
        "import sys, time, tempfile, datasets\n"
        "datasets.disable_progress_bars()\n"
        "with tempfile.TemporaryDirectory(dir=sys.argv[2]) as cache:\n"
        "    start, used = time.perf_counter(), time.process_time()\n"
        "    datasets.load_dataset('json', data_files=sys.argv[1], cache_dir=cache)\n"
        "    print(time.perf_counter() - start, time.process_time() - used)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(file), str(file.parent)], stdout=subprocess.PIPE, text=True
    )
    memory = PeakMemory(process.pid)
    out, _ = process.communicate()
    seconds, processor = out.strip().splitlines()[-1].split()
    return Measured(float(seconds), float(processor), memory.stop())


def scan(file: Path, model: str | None = None) -> tuple[Measured, float]:
    """A scan from the request to the report, starting its processes included, and when counting tokens began."""
    start, used = time.perf_counter(), _processor_seconds()
    began = 0.0
    with ScanProcess(ScanRequest(Source(str(file)), model=model, max_length=1024 if model else None)) as process:
        memory = PeakMemory(process.pid)
        for event in process.events():
            if event["event"] == "partial" and event["report"]["verdict"] != "still reading" and not began:
                began = time.perf_counter() - start
        seconds = time.perf_counter() - start
        peak = memory.stop()
        process.wait()
    return Measured(seconds, _processor_seconds() - used, peak), began


def timed(function: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def line(name: str, measured: Measured, base: Measured, aim: str) -> str:
    """One line of the table."""
    return (
        f"| {name} | {measured.seconds:.2f} | {measured.seconds / base.seconds:.2f} | {measured.processor:.1f} | "
        f"{measured.processor / base.processor:.2f} | {measured.memory / 1e6:.0f} MB | {aim} |"
    )


def main() -> None:
    """Run the benchmark."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--pairs", type=int, default=1_000_000)
    arguments.add_argument("--model", help="also count tokens with this model's tokenizer, of a tenth of the pairs")
    arguments.add_argument("--keep", type=Path, help="keep the synthetic files in this folder, and use them again")
    arguments.add_argument("--repeat", type=int, default=3, help="best of so many runs, alternating")
    arguments.add_argument("--bad", type=float, default=0.002, help="share of bad rows of each kind in the second file")
    given = arguments.parse_args()
    real = Path(os.environ["DPO_TUI_REAL_DATA"])
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["DPO_TUI_HOME"] = str(Path(scratch) / "home")
        folder = given.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"pairs-{given.pairs}.jsonl"
        if not file.exists():
            make_file(file, given.pairs, real)
        with_bad = folder / f"pairs-{given.pairs}-bad-{given.bad}.jsonl"
        if not with_bad.exists():
            make_file(with_bad, given.pairs, real, given.bad)
        rounds = [(load_with_datasets(file), scan(file)[0]) for _ in range(given.repeat)]
        loaded = min((one for one, _ in rounds), key=lambda one: one.seconds)
        scanned = min((one for _, one in rounds), key=lambda one: one.seconds)
        scanned_bad = min((scan(with_bad)[0] for _ in range(given.repeat)), key=lambda one: one.seconds)
        first = min(timed(lambda: preview_rows(Source(str(file)), 100)) for _ in range(3))
        cores = len(os.sched_getaffinity(0))
        size = file.stat().st_size / 1e9
        print(f"{given.pairs:,} pairs, {size:.2f} GB, {cores} cores, load average {os.getloadavg()[0]:.1f}\n")
        print("| what | seconds | ratio | processor s | ratio | peak memory | aim |")
        print("|---|---:|---:|---:|---:|---:|---|")
        print(line('`datasets.load_dataset("json")`', loaded, loaded, ""))
        print(line("scan, every check but tokens", scanned, loaded, "seconds ≤ 1.0 ×, ≤ 400 MB"))
        print(line("scan of bad rows of every kind", scanned_bad, loaded, "≤ 150 MB"))
        print(f"| first 100 rows | {first:.3f} | | | | | ≤ 0.2 s |")
        if given.model:
            count = given.pairs // 10
            small = folder / f"pairs-{count}.jsonl"
            if not small.exists():
                make_file(small, count, real)
            plain = scan(small)[0]
            counted, began = scan(small, given.model)
            clock = count / (counted.seconds - began) * 60 / cores
            pure = count / (counted.processor - plain.processor) * 60
            print(
                f"\nExact tokens of {count:,} pairs: {clock:,.0f} pairs a minute and core on the clock, {pure:,.0f} by "
                f"processor time, {counted.memory / 1e6:.0f} MB (aim: ≥ 100,000)."
            )


if __name__ == "__main__":
    main()
