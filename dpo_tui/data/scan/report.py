"""The report of a scan: what a dataset is, what training will do with it, what is wrong, and a verdict.

Its fields are a contract (``dpo-tui inspect --json``); docs/data.md describes them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dpo_tui.data.checks.check import Check
from dpo_tui.data.rows.column_use import reading_notes, unused_notes
from dpo_tui.data.scan.totals import LISTED_ROWS, Totals
from dpo_tui.data.source.row_places import RowPlaces
from dpo_tui.data.source_mix import SourceRows
from dpo_tui.data.tokens.length_histogram import TokenFigures
from dpo_tui.data.tokens.template_findings import TemplateFinding

# More than this share of unusable rows is no longer an accident of a few lines. Ours, as the next one.
MANY_UNUSABLE = 0.1
# Warnings about more than this share of the pairs concern the dataset, not a few rows.
MANY_FLAGGED = 0.1
_TEMPLATE_MATTERS = "What is trained is the text that the chat template makes of a row, not the row."
EFFECTIVE_BATCH = 8
"""Pairs in one optimizer step with both hardware presets."""


@dataclass(frozen=True, slots=True)
class ReportedProblem:
    """What one check found.

    Args:
        check: its id.
        severity: ``error``, ``warning`` or ``info``.
        count: how many rows, or pairs for checks of the whole dataset.
        rows: the first hundred rows, from 1; empty for checks of the whole dataset.
        title: what is wrong.
        detail: numbers, or the reason for the first row; may be empty.
        explanation: why it matters.
        remedy: what to do.
    """

    check: str
    severity: str
    count: int
    rows: list[int]
    title: str
    detail: str
    explanation: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Report:
    """The results of a scan; see docs/data.md for the fields."""

    location: str
    rows: int
    usable: int
    format: str
    columns: dict[str, str]
    lengths: dict[str, Any]
    will_drop: int | None
    will_truncate: int | None
    problems: list[ReportedProblem]
    verdict: str
    model: str | None = None
    max_length: int | None = None
    keeps: dict[str, int] | None = None
    steps_per_epoch: int = 0
    notes: list[str] = field(default_factory=list)
    complete: bool = True
    unused_columns: dict[str, str] = field(default_factory=dict)
    files: list[dict[str, Any]] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON document."""
        return asdict(self)


def make_report(
    totals: Totals,
    checks: dict[str, Check],
    *,
    location: str,
    model: str | None = None,
    max_length: int | None = None,
    tokens: TokenFigures | None = None,
    template: Sequence[TemplateFinding] = (),
    complete: bool = True,
    places: RowPlaces | None = None,
    files: Sequence[tuple[str, int]] = (),
    sources: Sequence[SourceRows] = (),
) -> Report:
    """Make a report of what is known so far.

    Args:
        totals: the counts of the scan.
        checks: the registered checks.
        location: the dataset, as the user named it.
        model: the model whose tokenizer counted tokens.
        max_length: tokens that TRL keeps of prompt and answer.
        tokens: the token counts; None where only characters were counted.
        template: what is wrong with the text that the model's chat template makes of the pairs.
        complete: whether all rows were read; the checks of the whole dataset need all of them.
        places: names the file of a row.
        files: path of each file, and how many rows come before it.
        sources: what is used of each location, where the dataset has several.
    """
    names = [name for name, _ in totals.formats.most_common()]
    unused = totals.columns.unused
    notes = [*totals.notes, *reading_notes(totals.reading), *unused_notes(unused)]
    if tokens is not None and not tokens.own_template:
        notes.append("the model has no chat template: ChatML is used")
    if tokens is not None and tokens.unrenderable:
        unrenderable = _scaled(tokens.unrenderable, tokens, totals)
        notes.append(f"the model's chat template refuses {unrenderable:,} of the pairs: training leaves them out")
    dropped = _scaled(tokens.will_drop + tokens.unrenderable, tokens, totals) if tokens else None
    problems = _problems(totals, checks, places or RowPlaces([], []), complete=complete)
    problems = _sorted([*problems, *map(_template_problem, template)])
    used = sum(one.used for one in sources) / max(sum(one.usable for one in sources), 1) if sources else 1.0
    trained = round((totals.usable - (dropped or 0)) * used)
    lengths: dict[str, Any] = {
        "characters": {name: histogram.summary() for name, histogram in totals.characters.items()},
        "tokens": None,
    }
    if tokens is not None:
        lengths["tokens"] = {**tokens.summaries, "counted": tokens.counted, "exact": tokens.exact}
    return Report(
        location=location,
        rows=totals.rows,
        usable=totals.usable,
        format=names[0] if len(names) == 1 else "mixed: " + ", ".join(names) if names else "unknown",
        columns=dict(totals.evidence.get(names[0], {})) if names else {},
        lengths=lengths,
        will_drop=dropped,
        will_truncate=_scaled(tokens.will_truncate, tokens, totals) if tokens else None,
        problems=problems,
        verdict=_verdict(totals, problems, trained, mixed=used < 1) if complete else "still reading",
        model=model,
        max_length=max_length,
        keeps=tokens.keeps if tokens else None,
        steps_per_epoch=-(-trained // EFFECTIVE_BATCH),
        notes=notes,
        complete=complete and (tokens is None or tokens.exact),
        unused_columns=unused,
        files=[{"path": path, "rows_before": first} for path, first in files],
        sources=[one.to_json() for one in sources],
    )


def _scaled(count: int, tokens: TokenFigures, totals: Totals) -> int:
    """A count in a sample scaled up to all pairs; an exact count unchanged."""
    return count if tokens.exact or not tokens.counted else round(count * totals.usable / tokens.counted)


def _problems(totals: Totals, checks: dict[str, Check], places: RowPlaces, *, complete: bool) -> list[ReportedProblem]:
    found = []
    for check in checks.values():
        if check.judge_dataset is not None:
            finding = check.judge_dataset(totals) if complete and totals.usable else None
            if finding is not None:
                found.append(_problem(check, finding.count, [], finding.detail))
        elif count := totals.counts[check.bit]:
            reasons = totals.messages.get(check.id, [])
            detail = f"{places.label(reasons[0][0])}: {reasons[0][1]}" if reasons else ""
            found.append(_problem(check, count, totals.first_rows[check.bit][:LISTED_ROWS], detail))
    return found


def _sorted(problems: list[ReportedProblem]) -> list[ReportedProblem]:
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(problems, key=lambda problem: (order[problem.severity], -problem.count))


def _template_problem(found: TemplateFinding) -> ReportedProblem:
    detail = f"{found.message[:1].upper()}{found.message[1:]}."
    why = _TEMPLATE_MATTERS
    return ReportedProblem(found.check, found.severity, found.count, [], found.title, detail, why, found.remedy)


def _problem(check: Check, count: int, rows: list[int], detail: str) -> ReportedProblem:
    return ReportedProblem(check.id, check.severity, count, rows, check.title, detail, check.explanation, check.remedy)


def _verdict(totals: Totals, problems: list[ReportedProblem], trained: int, *, mixed: bool) -> str:
    """The verdict on ``trained`` pairs; ``mixed``: the weights of the sources leave some of the usable pairs out."""
    if trained <= 0:
        return "Not usable: no pair is left to train on."
    faulty = sum(problem.count for problem in problems if problem.severity == "error")
    unusable = totals.rows and faulty / totals.rows
    warnings = [problem for problem in problems if problem.severity == "warning"]
    heavy = [problem.check for problem in warnings if _is_heavy(problem, totals)]
    light = [problem.check for problem in warnings if not _is_heavy(problem, totals)]
    if mixed:
        numbers = f"{trained:,} of {totals.usable:,} usable pairs are in the mix and can be trained on"
    elif trained < totals.usable:
        numbers = f"{trained:,} of {totals.usable:,} usable pairs fit"
    else:
        numbers = f"{trained:,} pairs can be trained on"
    if unusable > MANY_UNUSABLE:
        return f"Doubtful: {numbers}, but {unusable:.0%} of the rows cannot be used. Repair the source first."
    if heavy:
        return f"Usable with care: {numbers}. First look at: {', '.join(heavy)}."
    if light:
        return f"Good: {numbers}. Worth a look: {', '.join(light)}."
    return f"Good: {numbers}."


def _is_heavy(problem: ReportedProblem, totals: Totals) -> bool:
    """Whether a problem concerns the dataset as a whole, or a large share of its pairs."""
    return not problem.rows or problem.count > MANY_FLAGGED * totals.usable
