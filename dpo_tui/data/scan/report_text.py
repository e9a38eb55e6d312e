"""Format the report of a scan as plain text of 80 columns that ends with the verdict."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpo_tui.data.source.row_places import RowPlaces
from dpo_tui.text.printable import printable

WIDTH = 80
_BARS = " ▁▂▃▄▅▆▇█"
_ASCII_BARS = " .:-=+*#@"
_MARKS = {"error": "✗", "warning": "⚠", "info": "·"}
_ASCII_MARKS = {"error": "x", "warning": "!", "info": "-"}
_ROWS_SHOWN = 8


def report_text(report: dict[str, Any], *, ascii_only: bool = False, remedies: Mapping[str, str] | None = None) -> str:
    """Write a report for a terminal.

    Args:
        report: what :meth:`dpo_tui.data.scan.report.Report.to_json` gives.
        ascii_only: write bars, marks and everything else in ASCII; other characters become ``?``.
        remedies: what to do, in place of the text in the report, which names options of the command line.
    """
    lines = [
        _field("data", report["location"]),
        _field(
            "format", f"{report['format']} ({_columns(report['columns'])})" if report["columns"] else report["format"]
        ),
        _field("rows", _rows(report)),
        *_lengths(report, ascii_only),
        *_training(report),
        *(_field("note", note) for note in report["notes"]),
        "",
        *_problems(report, ascii_only, remedies or {}),
        *textwrap.wrap(printable(report["verdict"], single_line=True), WIDTH, break_on_hyphens=False),
    ]
    text = "\n".join(line.rstrip() for line in lines)
    return text.encode("ascii", "replace").decode() if ascii_only else text


def _rows(report: dict[str, Any]) -> str:
    kind = "pairs" if "chosen" in report["columns"] or "label" not in report["columns"] else "labelled answers"
    return f"{report['rows']:,} rows, {report['usable']:,} usable {kind}"


def _columns(columns: dict[str, str]) -> str:
    return ", ".join(part if part == name else f"{part} = {name}" for part, name in columns.items())


def _field(name: str, value: str) -> str:
    text = printable(value, single_line=True)
    return textwrap.fill(text, WIDTH, initial_indent=f"{name:<11}", subsequent_indent=" " * 11, break_on_hyphens=False)


def _lengths(report: dict[str, Any], ascii_only: bool) -> list[str]:
    tokens = report["lengths"]["tokens"]
    unit = "tokens" if tokens else "characters"
    known = tokens or report["lengths"]["characters"]
    lines = [f"{unit:<11}{'median':>8}{'95 %':>8}{'99 %':>8}{'longest':>9}"]
    for part in ("prompt", "chosen", "rejected"):
        summary = known[part]
        if not summary.get("count"):
            continue
        numbers = f"{summary['p50']:>8,}{summary['p95']:>8,}{summary['p99']:>8,}{summary['max']:>9,}"
        lines.append(f"  {part:<9}{numbers}   {_bars(summary['histogram']['counts'], ascii_only)}")
    if tokens and not tokens["exact"]:
        lines.append(f"  (an estimate from {tokens['counted']:,} pairs)")
    return lines if len(lines) > 1 else []


def _bars(counts: list[int], ascii_only: bool) -> str:
    heights = _ASCII_BARS if ascii_only else _BARS
    top = max(counts, default=0) or 1
    # A bin that is not empty shows at least the lowest bar.
    return "".join(heights[0 if not count else max(1, round(count / top * (len(heights) - 1)))] for count in counts)


def _training(report: dict[str, Any]) -> list[str]:
    lines = []
    if report["will_drop"] is not None and report["max_length"]:
        limit = report["max_length"]
        keeps = report["keeps"]
        text = (
            f"at max_seq_length {limit:,} training will drop {_count(report['will_drop'], 'pair')} and cut "
            f"{_count(report['will_truncate'], 'answer')}; {keeps['95']:,} keeps 95 % of the pairs whole, "
            f"{keeps['99']:,} keeps 99 %, {keeps['100']:,} all"
        )
        lines.append(_field("fit", text))
    lines.append(_field("steps", f"{report['steps_per_epoch']:,} an epoch, with 8 pairs a step and nothing held out"))
    return lines


def _row(row: int, places: RowPlaces) -> str:
    place = places.of(row)
    return f"{row} ({place})" if place else str(row)


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _problems(report: dict[str, Any], ascii_only: bool, remedies: Mapping[str, str]) -> list[str]:
    problems, files = report["problems"], report.get("files", [])
    places = RowPlaces([Path(file["path"]) for file in files], [file["rows_before"] for file in files])
    marks = _ASCII_MARKS if ascii_only else _MARKS
    lines: list[str] = []
    for problem in problems:
        head = f"{marks[problem['severity']]} {problem['check']:<19}{problem['count']:>9,}  {problem['title']}"
        lines.append(head[:WIDTH])
        shown = ", ".join(_row(row, places) for row in problem["rows"][:_ROWS_SHOWN])
        more = ", …" if len(problem["rows"]) > _ROWS_SHOWN else ""
        remedy = remedies.get(problem["remedy"], problem["remedy"])
        for text in (f"rows {shown}{more}" if shown else "", problem["detail"], remedy):
            if text:
                lines += textwrap.wrap(
                    printable(text, single_line=True),
                    WIDTH,
                    initial_indent=" " * 4,
                    subsequent_indent=" " * 4,
                    break_on_hyphens=False,
                )
        lines.append("")
    return lines
