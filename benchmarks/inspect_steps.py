"""Say where the processor time of a scan goes: one process, step by step.

    python benchmarks/inspect_steps.py FILE.jsonl [--portions 40] [--repeat 4]

Takes the first portions of a file (`benchmarks/inspect_data.py --keep DIR` leaves one), times the parts of the work on
each with the processor's clock, and prints the table of benchmarks/results/inspect.md, scaled to the whole file. Steps
lie within one another as the table says; the clock itself adds a few percent.
"""

import argparse
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dpo_tui.data.checks.check import PairCheck
from dpo_tui.data.checks.pair_columns import PairColumns
from dpo_tui.data.checks.registry import checks
from dpo_tui.data.columns import plain_lines
from dpo_tui.data.rows.column_shapes import ColumnMapping
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.scan import chunk_scanner, pair_batcher, scanner
from dpo_tui.data.source.chunks import chunks_of
from dpo_tui.data.source.source import data_file

SECONDS: dict[str, float] = {}


def count(step: str, seconds: float) -> None:
    """Add to a step."""
    SECONDS[step] = SECONDS.get(step, 0.0) + seconds


def timed(owner: Any, name: str, step: str) -> None:
    """Count the processor time of a function under a name."""
    function = getattr(owner, name)

    @wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        start = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            count(step, time.process_time() - start)

    setattr(owner, name, wrapped)


def timed_check(name: str, check: PairCheck) -> PairCheck:
    """The same check, counted."""

    def wrapped(batch: PairColumns) -> Iterable[int]:
        start = time.process_time()
        found = list(check(batch))
        count(f"check {name}", time.process_time() - start)
        return found

    return wrapped


def main() -> None:
    """Run the benchmark."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("file", type=Path)
    arguments.add_argument("--portions", type=int, default=40)
    arguments.add_argument("--repeat", type=int, default=4, help="best of so many rounds")
    given = arguments.parse_args()
    scanner._make_scanner(ColumnMapping())
    timed(chunk_scanner, "read_bytes", "read")
    timed(pair_batcher, "unusual_rows", "look for line ends and unusual bytes")
    timed(plain_lines.PlainLines, "rows", "take columns (the next two and the parser)")
    timed(pair_batcher.TextColumn, "of", "… lengths and hashes of texts")
    timed(plain_lines, "without_special_rows", "… blanks, equal answers, transcripts")
    timed(PairColumns, "_similarity_of", "… of too-similar: rapidfuzz")
    known = {
        name: replace(check, find_pairs=timed_check(name, check.find_pairs)) if check.find_pairs else check
        for name, check in checks().items()
    }
    chunk_by_chunk = chunk_scanner.ChunkScanner(Recogniser(ColumnMapping()), known)
    every = list(chunks_of(data_file(given.file)))
    taken = every[: given.portions]
    best: dict[str, float] = {}
    for _ in range(given.repeat):
        SECONDS.clear()
        start = time.process_time()
        for chunk in taken:
            chunk_by_chunk.scan(chunk)
        SECONDS["all"] = time.process_time() - start
        if not best or SECONDS["all"] < best["all"]:
            best = dict(SECONDS)
    print(f"| step | s |\n|---|---:|\n| all | {best.pop('all') * len(every) / len(taken):.2f} |")
    for step, seconds in sorted(best.items(), key=lambda item: -item[1]):
        print(f"| {step} | {seconds * len(every) / len(taken):.2f} |")


if __name__ == "__main__":
    main()
