"""Write what a campaign has found: benchmarks/results/faults.md, and the counts in docs/guarantees.md."""

import platform
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.fault_kinds.table import table, violated

_ROW = re.compile(r"^\| (?P<rest>.*) \| (?P<kinds>[^|]*) \| (?P<count>[\d,]*) \| (?P<tests>[^|]*) \|$")
_NAME = re.compile(r"`([a-z][a-z-]+)`")


def page(results: Sequence[dict[str, Any]]) -> str:
    """The page of results."""
    injected = [one for one in results if not one["skipped"]]
    kinds = {one["kind"] for one in injected}
    seeds = ", ".join(str(seed) for seed in sorted({one["seed"] for one in results}))
    commits = Counter(str(one.get("commit", "unknown")) for one in results)
    days = sorted({str(one.get("day", "")) for one in results} - {""})
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "peft"))
    return f"""# Faults

`python benchmarks/faults.py --out faults.jsonl`, seed {seeds}, {" to ".join(days[:: max(1, len(days) - 1)])}. \
{platform.machine()}, Python {platform.python_version()}, {packages}. \
At commit {", ".join(f"{commit} ({count})" for commit, count in commits.most_common())}.

**{len(injected):,} faults of {len(kinds)} kinds, {len(violated(injected))} violated.** The last result counts; \
what was violated before, and its mend, is in [the log](../../docs/log.md). After each the same rules are \
checked (`benchmarks/fault_kinds/checks.py`): the status is true; its reason names the cause where it can be known; no \
line of metrics that was written is lost; resume goes on from the newest whole checkpoint and names it; the run ends \
at the same step with metrics of every step; no process, request, lock, draft or temporary file is left; the other run \
of the home is as it was; no command prints a traceback or a raw control character, or ends with another exit code \
than those promised. In real training every step has the loss of a run that nothing has disturbed, to 1e-5 of it. \
That each rule can fail is tested (`tests/benchmarks/test_fault_checks.py`). One fault again: `--only KIND/NUMBER`.

{table(results)}"""


def counts(results: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How often each kind was injected."""
    return dict(Counter(one["kind"] for one in results if not one["skipped"]))


def with_counts(text: str, injected: Mapping[str, int]) -> str:
    """A page of guarantees, with how often the kinds were injected that a row names.

    Args:
        text: docs/guarantees.md.
        injected: by kind.
    """
    return "\n".join(_counted(line, injected) for line in text.split("\n"))


def _counted(line: str, injected: Mapping[str, int]) -> str:
    row = _ROW.match(line)
    kinds = _NAME.findall(row["kinds"]) if row else []
    if row is None or not kinds:
        return line
    total = sum(injected.get(kind, 0) for kind in kinds)
    return f"| {row['rest']} | {row['kinds']} | {total:,} | {row['tests']} |"


def kinds_named(text: str) -> dict[str, tuple[list[str], int]]:
    """Of each row of guarantees that names kinds: these, and the count that stands there, by the row's beginning."""
    found = {}
    for line in text.split("\n"):
        row = _ROW.match(line)
        if row and (kinds := _NAME.findall(row["kinds"])):
            found[row["rest"]] = (kinds, int(row["count"].replace(",", "") or 0))
    return found


def injected_in(results_page: str) -> dict[str, int]:
    """The counts in benchmarks/results/faults.md."""
    rows = re.findall(r"^\| ([a-z-]+) \|.*\| (\d+) \| \d+ \|$", results_page, re.MULTILINE)
    return {name: int(count) for name, count in rows}


def write(results: Sequence[dict[str, Any]], path: Path, guarantees: Path) -> None:
    """Write both pages."""
    path.write_text(page(results), encoding="utf-8")
    if guarantees.exists():
        text = guarantees.read_text(encoding="utf-8")
        guarantees.write_text(with_counts(text, counts(results)), encoding="utf-8")
