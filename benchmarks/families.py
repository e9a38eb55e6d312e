"""Model families trained, evaluated, merged and resumed by dpo-tui, against TRL, PEFT and transformers by themselves.

    python benchmarks/families.py [NAME…] [--jobs 2] >benchmarks/results/families.md

Each family is a small random model (`tests/support/families.py`) in a process of its own, so that one that crashes or
leaks does not end the others. What is compared, and how, is in `tests/support/family_comparison.py`. Exits with 1 if
a bound is broken.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.families import FAMILIES, IN_4BIT, build  # noqa: E402
from tests.support.family_comparison import BOUNDS, EXCEPTIONS, Comparison, broken_bounds, compare  # noqa: E402

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes")
COLUMNS = {
    "loss": "Δ loss",
    "loss_once": "Δ loss, reference once",
    "loss_4bit": "Δ loss, NF4",
    "left_start": "loss moved by",
    "merge": "Δ merged logits",
    "merge_share": "of the adapter's change",
    "evaluation": "Δ `eval`",
    "resumed": "Δ resumed, full",
    "full_evaluation": "Δ `eval`, full",
}
_SECONDS = 600


def measure(name: str) -> Comparison:
    """Measure one family in this process."""
    parts = ["lora", "full", *(["4bit"] if name in IN_4BIT else [])]
    with tempfile.TemporaryDirectory() as folder:
        model = build(name, Path(folder) / "model")
        scratch = Path(folder) / "scratch"
        scratch.mkdir()
        return compare(name, model, scratch, parts)


def measure_in_a_process(name: str) -> Comparison:
    """Measure one family in a process of its own; a failure becomes a note."""
    command = [sys.executable, str(Path(__file__).resolve()), "--one", name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Comparison(notes=(f"not done after {_SECONDS} s",))
    if done.returncode:
        return Comparison(notes=(f"failed: {done.stderr.strip().splitlines()[-1]}",))
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return Comparison(**found | {"notes": tuple(found["notes"])})


def row(name: str, found: Comparison) -> str:
    """Return one line of the table; what breaks a bound is in bold."""
    broken = {bound.name for bound in broken_bounds(name, found)}
    cells = [_cell(getattr(found, column), bold=column in broken) for column in COLUMNS]
    notes = [*found.notes, *(f"{COLUMNS[bound]}: {why}." for bound, why in EXCEPTIONS.get(name, {}).items())]
    shared = {True: "yes", False: "no", None: "–"}[found.shared]
    return f"| {name} | {' | '.join(cells)} | {shared} | {' '.join(notes)} |"


def _cell(value: float | None, *, bold: bool) -> str:
    if value is None:
        return "–"
    return f"**{value:.1e}**" if bold else f"{value:.1e}"


def report(results: dict[str, Comparison]) -> str:
    """Return the page: what was measured, on what, and one line a family."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    bounds = "; ".join(f"{COLUMNS[bound.name]} {bound.text}" for bound in BOUNDS)
    failed = [name for name, found in results.items() if broken_bounds(name, found)]
    return "\n".join(
        [
            "# Model families against TRL, PEFT and transformers",
            "",
            "    python benchmarks/families.py >benchmarks/results/families.md",
            "",
            f"Commit {commit.stdout.strip()}, {datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()},",
            f"{packages};",
            "on the CPU in fp32, random models of hidden size 64, three steps with adapters on 12 pairs of many",
            "lengths, four steps of full fine-tuning. Δ is the largest absolute difference;",
            "`tests/support/family_comparison.py` says of what.",
            "",
            f"Bounds: {bounds}.",
            "",
            f"{len(results) - len(failed)} of {len(results)} families are within all of them"
            + (f"; not: {', '.join(failed)}." if failed else "."),
            "",
            f"| family | {' | '.join(COLUMNS.values())} | prompts shared | |",
            "|---" * (len(COLUMNS) + 3) + "|",
            *(row(name, found) for name, found in results.items()),
            "",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the families that are named, or all of those that plain TRL trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*FAMILIES, []], metavar="NAME")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--one", choices=list(FAMILIES), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        found = measure(given.one)
        sys.stdout.write("\n" + json.dumps(asdict(found)) + "\n")
        return 0
    names = given.names or [name for name, family in FAMILIES.items() if family.plain_trl_trains]
    with ThreadPoolExecutor(given.jobs) as pool:
        results = dict(zip(names, pool.map(measure_in_a_process, names), strict=True))
    sys.stdout.write(report(results))
    return 1 if any(broken_bounds(name, found) for name, found in results.items()) else 0


if __name__ == "__main__":
    sys.exit(main())
