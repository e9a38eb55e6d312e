"""The results of a GPU benchmark as a Markdown page."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts.session import Part

_STATES = {"error": "failed", "not_measured": "not measured", "not_built": "not built"}
_HIDDEN = {"part", "row", "losses", *_STATES}


def page(results: Path, parts: Sequence[Part], command: str) -> str:
    """Return the page of a results file.

    Args:
        results: JSON lines, as the parts wrote them.
        parts: those that were to run.
        command: that ran them.
    """
    lines = [json.loads(text) for text in results.read_text(encoding="utf-8").splitlines()]
    about: dict[str, Any] = next(
        (line for line in lines if "machine" in line), {"machine": {}, "date": "?", "dry": False}
    )
    head = ["# On a GPU", "", f"    {command}", "", f"{about['date']}. " + _machine(about["machine"])]
    if about["dry"]:
        head += ["", "**Dry run: tiny sizes on the CPU. These figures say only that the program runs.**"]
    return "\n".join([*head, *(text for part in parts for text in _section(part, lines)), ""])


def _machine(machine: Mapping[str, Any]) -> str:
    gpus = "; ".join(machine.get("gpus", []))
    rest = ", ".join(f"{name} {value}" for name, value in machine.items() if name != "gpus")
    return f"GPU: {gpus}. {rest}."


def _section(part: Part, lines: Sequence[Mapping[str, Any]]) -> list[str]:
    own = [line for line in lines if line.get("part") == part.letter]
    rows = [line for line in own if "row" in line]
    end = next((line for line in own if "outcome" in line), None)
    how = "not run" if end is None else f"{end['outcome']}, {end['seconds']:.0f} s"
    reason = f": {end['reason']}" if end and end.get("reason") else ""
    found = ["", f"## {part.letter}. {part.title}", "", f"{part.meaning}", "", f"Part {how}{reason}."]
    columns = list(dict.fromkeys(key for row in rows for key in row if key not in _HIDDEN))
    if any(_state(row) for row in rows):
        columns.append("remark")
    if rows:
        found += ["", "| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        cells = [_cell(_state(row) if column == "remark" else row.get(column)) for column in columns]
        found.append(f"| {_cell(row['row'])} | " + " | ".join(cells) + " |")
    return found


def _state(row: Mapping[str, Any]) -> str:
    found = [f"**{words}**: {row[key]}" for key, words in _STATES.items() if isinstance(row.get(key), str)]
    return "; ".join(found)


def _cell(value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return (
            f"{value:.2e}" if value and abs(value) < 1e-3 else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
        )
    if isinstance(value, Mapping):
        value = ", ".join(f"{name}: {_cell(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        value = "; ".join(_cell(inner) for inner in value)
    return str(value).replace("|", "\\|").replace("\n", " ")
