"""The table of a campaign: a row a kind."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fault_kinds.kind import KINDS


def read_results(path: Path) -> list[dict[str, Any]]:
    """The results of a file; of a fault that was run again, the last."""
    found: dict[str, dict[str, Any]] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                one = json.loads(line)
                found[one["fault"]] = one
            except (ValueError, KeyError, TypeError):
                continue  # the last line of a campaign that was killed
    return list(found.values())


def table(results: Iterable[dict[str, Any]]) -> str:
    """The table, with the sum below it, and the violations below that."""
    by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in results:
        by_kind[one["kind"]].append(one)
    rows = ["| kind | what is done | training | injected | violated |", "|---|---|---|---|---|"]
    for name in [*KINDS, *sorted(by_kind.keys() - KINDS.keys())]:
        if found := by_kind.get(name):
            kind = KINDS.get(name)
            counted = [one for one in found if not one["skipped"]]
            what, real = (kind.what, kind.real) if kind else ("", False)
            rows.append(
                f"| {name} | {what} | {'real' if real else 'stand-in'} | {len(counted)} | {len(violated(counted))} |"
            )
    every = [one for found in by_kind.values() for one in found if not one["skipped"]]
    kinds = {one["kind"] for one in every}
    real_count = sum(name in KINDS and KINDS[name].real for name in (one["kind"] for one in every))
    rows.append(f"| **sum** | {len(kinds)} kinds | {real_count} real | **{len(every)}** | **{len(violated(every))}** |")
    return "\n".join(rows) + "\n" + _violations(violated(every))


def violated(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those in which something was wrong."""
    return [one for one in results if one["violations"]]


def _violations(found: Sequence[dict[str, Any]]) -> str:
    if not found:
        return ""
    lines = [f"- {one['fault']}: {'; '.join(one['violations'])}" for one in found]
    return "\nViolated:\n\n" + "\n".join(lines) + "\n"
