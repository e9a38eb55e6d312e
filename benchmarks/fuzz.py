"""A coverage-guided campaign of hostile text and files against every reader of `tests/support/hostile_input.py`.

    pip install atheris
    python benchmarks/fuzz.py [READER…] --minutes 1 --folder /tmp/fuzz >benchmarks/results/fuzz.md

A fault is an exception outside the product's own family, more than ten seconds for one input, or more than 500 MB on
top of the libraries. FOLDER keeps the corpora, a file for each kind of fault, and what was spent: the same command goes
on there. Minutes are of processor time, for each reader. Without atheris inputs are changed at random, unguided.
"""

import argparse
import hashlib
import json
import math
import os
import platform
import random
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.document_mutator import DocumentMutator, words_of  # noqa: E402 (found by the line above)

_SLICE = 60
"""Seconds of the clock after which a child ends at the latest; its corpus is what the next one begins with."""
_PARSERS = ("tomllib", "yaml", "jinja2")
"""Parsers written in Python: guidance inside of them finds documents that they take."""
_SECONDS_EACH = 10
_MEGABYTES = 500 + 400  # the libraries and atheris's tables take up to 400
_LONGEST = 4096


def begin(folder: Path, reader: str, seeds: list[bytes]) -> Path:
    """Make the corpus of a reader from its seeds, the corpus of the tests, and what was a fault before.

    Those are read again, so that of the faults written down only such stay as are not mended.
    """
    corpus = folder / "corpus" / reader
    corpus.mkdir(parents=True, exist_ok=True)
    before = sorted(_findings(folder, reader).glob("*.input"))
    kept = [file.read_bytes() for file in (*sorted((ROOT / "tests" / "corpus" / reader).glob("*")), *before)]
    for seed in [*seeds, *kept]:
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    for file in before:
        file.with_suffix(".txt").unlink(missing_ok=True)
        file.unlink()
    return corpus


def fuzz_one(folder: Path, reader: str, seed: int, seconds: int) -> None:
    """Feed one reader for a slice of time; this is the child."""
    try:
        import atheris
    except ImportError:
        from tests.support import hostile_input

        _at_random(folder, reader, seed, seconds, hostile_input)
        return
    with atheris.instrument_imports(include=["dpo_tui", *_PARSERS]):
        from tests.support import hostile_input

        seeds = hostile_input.SEEDS[reader]
        corpus = begin(folder, reader, seeds)
        once = _keeping(folder, reader, hostile_input)
        change = _mutator(once, seeds)  # reads the seeds: what that imports late is instrumented too
    options = {
        "max_total_time": seconds, "seed": seed, "timeout": _SECONDS_EACH, "rss_limit_mb": _MEGABYTES,
        "max_len": _LONGEST, "print_final_stats": 1, "artifact_prefix": f"{_findings(folder, reader)}/",
    }  # fmt: skip
    arguments = [sys.argv[0], *(f"-{name}={value}" for name, value in options.items()), str(corpus)]
    atheris.Setup(arguments, once, custom_mutator=change)
    atheris.Fuzz()


def _keeping(folder: Path, reader: str, hostile_input: Any) -> Callable[[bytes], None]:
    """Read an input, and keep the first one for each kind of exception."""

    def once(data: bytes) -> None:
        try:
            hostile_input.read(reader, data)
        except Exception as error:
            kind = hostile_input.kind_of(error)
            name = hashlib.sha256(kind.encode()).hexdigest()[:12]
            found = _findings(folder, reader) / f"{name}.input"
            if not found.exists():
                found.write_bytes(data)
                found.with_suffix(".txt").write_text(f"{kind}: {str(error)[:300]}\n", encoding="utf-8")

    return once


def _mutator(once: Callable[[bytes], None], seeds: list[bytes]) -> DocumentMutator:
    return DocumentMutator(words_of(lambda: list(map(once, seeds)), f"{os.sep}dpo_tui{os.sep}"))


def _at_random(folder: Path, reader: str, seed: int, seconds: int, hostile_input: Any) -> None:
    """Change seeds at random for a slice of time."""
    seeds = hostile_input.SEEDS[reader]
    known = [file.read_bytes() for file in sorted(begin(folder, reader, seeds).iterdir())]
    once, chance, count = _keeping(folder, reader, hostile_input), random.Random(seed), 0
    change = _mutator(once, seeds)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = chance.choice(known)
        for _ in range(chance.randint(1, 4)):
            data = change(data, _LONGEST, chance.getrandbits(32))
        once(data)
        count += 1
    sys.stderr.write(f"stat::number_of_executed_units: {count}\n")


def _findings(folder: Path, reader: str) -> Path:
    place = folder / "findings" / reader
    place.mkdir(parents=True, exist_ok=True)
    return place


def campaign(folder: Path, reader: str, minutes: float, seed: int) -> None:
    """Feed a reader until it has had its processor time, and write down what was spent."""
    record = folder / "spent" / f"{reader}.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    spent = json.loads(record.read_bytes()) if record.exists() else {"seconds": 0.0, "inputs": 0, "slices": 0}
    while spent["seconds"] < 60 * minutes:
        before = _children_seconds()
        command = [sys.executable, __file__, reader, "--one", "--folder", str(folder)]
        seconds = math.ceil(min(_SLICE, 60 * minutes - spent["seconds"]))
        command += ["--seed", str(seed + spent["slices"]), "--seconds", str(seconds)]
        environment = {**os.environ, "DPO_TUI_HOME": str(folder / "home"), "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
        counted = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        covered = re.findall(r"cov: (\d+)", done.stderr)
        spent["slices"] += 1
        spent["seconds"] += _children_seconds() - before
        spent["inputs"] += int(counted.group(1)) if counted else 0
        spent["covered"] = max(spent.get("covered", 0), *map(int, covered), 0)
        spent["last"] = done.returncode
        record.write_text(json.dumps(spent), encoding="utf-8")
        if done.returncode:
            (_findings(folder, reader) / f"slice-{spent['slices']}.log").write_text(
                done.stderr[-4000:], encoding="utf-8"
            )


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def page(folder: Path, readers: list[str]) -> str:
    """The table of what was spent and found."""
    try:
        guide = f"atheris {version('atheris')}"
    except PackageNotFoundError:
        guide = "no guidance (atheris is not installed)"
    lines = [
        "# Hostile input", "",
        f"`python benchmarks/fuzz.py`, {guide}, Python {platform.python_version()}, {os.cpu_count()} cores.", "",
        "| reader | processor seconds | inputs | places covered | kinds of faults open |", "|---|---|---|---|---|",
    ]  # fmt: skip
    total = 0.0
    for reader in readers:
        record = folder / "spent" / f"{reader}.json"
        if not record.exists():
            continue
        spent = json.loads(record.read_bytes())
        total += spent["seconds"]
        kinds = [file.read_text(encoding="utf-8").strip() for file in sorted(_findings(folder, reader).glob("*.txt"))]
        kinds += [
            file.name
            for file in _findings(folder, reader).iterdir()
            if file.name.startswith(("timeout", "oom", "crash"))
        ]
        faults = "; ".join(f"`{kind.replace('|', ' ')[:120]}`" for kind in kinds) or "none"
        lines.append(
            f"| {reader} | {spent['seconds']:.0f} | {spent['inputs']:,} | {spent.get('covered', 0):,} | {faults} |"
        )
    return "\n".join([*lines, "", f"{total / 60:.1f} minutes of processor time in all."])


def main() -> None:
    """Run a campaign, and print its page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, default=Path("fuzz"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=_SLICE, help=argparse.SUPPRESS)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        fuzz_one(given.folder, given.readers[0], given.seed, given.seconds)
        return
    tables = [file.read_text(encoding="utf-8") for file in sorted((ROOT / "tests" / "support").glob("hostile_*.py"))]
    rows = "".join(table.partition("READERS: dict")[2] for table in tables)
    readers = given.readers or list(dict.fromkeys(re.findall(r'^    "(\w+)": \w+,$', rows, re.MULTILINE)))
    for reader in readers:
        campaign(given.folder, reader, given.minutes, given.seed)
        print(f"{reader}: done", file=sys.stderr)
    print(page(given.folder, readers))


if __name__ == "__main__":
    main()
