"""The report on a dataset of labelled answers, which a scan for pairs cannot use: what they are, and what is wrong."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpo_tui.data.checks.check import Check
from dpo_tui.data.checks.pair_columns import PairColumns, TextColumn
from dpo_tui.data.label_balance import FEW_OF_A_LABEL, LabelBalance
from dpo_tui.data.load_labelled import LoadedLabelled, load_labelled
from dpo_tui.data.pairs.labelled_answer import LabelledAnswer
from dpo_tui.data.pairs.pair import text_of
from dpo_tui.data.scan.report import EFFECTIVE_BATCH, Report, ReportedProblem
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.totals import LISTED_ROWS
from dpo_tui.data.tokens.chat_template import Unrenderable
from dpo_tui.data.tokens.length_histogram import LengthHistogram
from dpo_tui.data.tokens.pair_lengths import TokenCounter, is_kept, truncated_answers
from dpo_tui.errors import DataError
from dpo_tui.hub.tokenizer_files import tokenizer_folder

_CHECKS = ("prompt-in-answer", "template-tokens", "control-characters")
"""Checks of pairs that make sense for one answer."""
_MOST_COUNTED = 4000
"""Answers whose tokens are counted."""
_OF_ANSWERS = {
    "missing-field": (
        "prompt, answer or label is missing",
        "KTO needs an answer to a prompt and a verdict on it; a row without one of the three says nothing.",
        "Name other columns (prompt_field, completion_field, label_field), or leave the rows out.",
    )
}
"""Title, explanation and remedy of checks that speak of the columns of pairs."""
FOR_KTO = 'These are labelled answers, for strategy = "kto": DPO needs two answers to one prompt.'


def labelled_report(
    request: ScanRequest, checks: dict[str, Check], files: Sequence[tuple[str, int]]
) -> tuple[Report, NDArray[np.uint32]] | None:
    """Read a dataset as labelled answers.

    Args:
        request: what to scan; its model counts tokens.
        checks: the registered checks.
        files: path of each file, and how many rows come before it.

    Returns:
        The report and the flags of each row; None where the dataset has no labelled answer either.

    Raises:
        DataError: the model's tokenizer cannot be read.
    """
    try:
        loaded = load_labelled(request.source)
    except DataError:
        return None
    problems, flags = _problems(loaded, checks)
    tokens = _tokens(request, loaded.rows) if request.model else None
    trained = len(loaded.rows) - (tokens["dropped"] if tokens else 0)
    found = LabelBalance.of(loaded.rows).sentences({})
    report = Report(
        location=request.source.name,
        rows=loaded.total,
        usable=len(loaded.rows),
        format=loaded.format,
        columns=loaded.columns,
        lengths={"characters": _characters(loaded.rows), "tokens": tokens["summaries"] if tokens else None},
        will_drop=tokens["dropped"] if tokens else None,
        will_truncate=tokens["truncated"] if tokens else None,
        problems=sorted(problems, key=lambda one: (("error", "warning", "info").index(one.severity), -one.count)),
        verdict=_verdict(trained, problems),
        model=request.model,
        max_length=request.max_length,
        keeps=tokens["keeps"] if tokens else None,
        steps_per_epoch=-(-trained // EFFECTIVE_BATCH),
        notes=[*loaded.notes, *found[:1], FOR_KTO],
        files=[{"path": path, "rows_before": first} for path, first in files],
        sources=[one.to_json() for one in loaded.sources],
    )
    return report, flags


def _verdict(trained: int, problems: Sequence[ReportedProblem]) -> str:
    warnings = [problem.check for problem in problems if problem.severity == "warning"]
    start = "Usable with care" if warnings else "Good"
    text = f'{start}: {trained:,} labelled answers can be trained on, with strategy = "kto".'
    return f"{text} First look at: {', '.join(warnings)}." if warnings else text


def _problems(loaded: LoadedLabelled, checks: dict[str, Check]) -> tuple[list[ReportedProblem], NDArray[np.uint32]]:
    """What is wrong with the rows, and the bits of the checks that found it, by row."""
    by_check: dict[str, list[int]] = {}
    details = {problem.check: f"{problem.label}: {problem.message}" for problem in reversed(loaded.dropped)}
    for problem in loaded.dropped:
        by_check.setdefault(problem.check, []).append(problem.row)
    columns = _columns(loaded.rows)
    for name in _CHECKS:
        find = checks[name].find_pairs
        rows = [loaded.rows[index].row for index in find(columns)] if find else []
        if rows:
            by_check[name] = rows
    seen: set[str] = set()
    for row in loaded.rows:
        key = repr((row.prompt, row.completion, row.desirable))
        if key in seen:
            by_check.setdefault("duplicate-pair", []).append(row.row)
        seen.add(key)
    last = max((row.row for row in loaded.rows), default=0)
    flags = np.zeros(max([last, *(one.row for one in loaded.dropped)]), dtype=np.uint32)
    for name, numbers in by_check.items():
        flags[np.array(numbers) - 1] |= np.uint32(1 << checks[name].bit)
    found = [
        ReportedProblem(
            name,
            checks[name].severity,
            len(numbers),
            numbers[:LISTED_ROWS],
            title,
            details.get(name, ""),
            explanation,
            remedy,
        )
        for name, numbers in by_check.items()
        for title, explanation, remedy in [_message_of(checks[name], name)]
    ]
    return [*found, *_label_problems(loaded.rows)], flags


def _message_of(check: Check, name: str) -> tuple[str, str, str]:
    return _OF_ANSWERS.get(name) or (check.title.replace("pair", "answer"), check.explanation, check.remedy)


def _label_problems(rows: Sequence[LabelledAnswer]) -> list[ReportedProblem]:
    """What is wrong with the labels as a whole."""
    counts = LabelBalance.of(rows)
    fewest = min(counts.desirable, counts.undesirable)
    found = []
    for sentence in counts.sentences({})[1:]:
        text = sentence.removeprefix("labels: ")
        check, count, title = "label-balance", abs(counts.desirable - counts.undesirable), "labels are out of balance"
        if text.startswith("only"):
            check, count, title = "few-of-a-label", fewest, f"fewer than {FEW_OF_A_LABEL} answers of one label"
        elif "in one row" in text:
            check, count, title = "conflicting-labels", counts.conflicting, "the same answer has both labels"
        found.append(ReportedProblem(check, "warning", count, [], title, f"{text[:1].upper()}{text[1:]}.", "", ""))
    if not fewest:
        why = "KTO needs answers of both labels: there is nothing to tell these from"
        found.append(ReportedProblem("one-label", "warning", len(rows), [], "all labels are the same", why, "", ""))
    return found


def _columns(rows: Sequence[LabelledAnswer]) -> PairColumns:
    """The answers as pairs of an answer with itself, as the checks of single texts take them."""
    prompts = TextColumn.of([text_of(row.prompt) for row in rows])
    answers = TextColumn.of([text_of(row.completion) for row in rows])
    return PairColumns(np.arange(len(rows)), prompts, answers, answers)


def _characters(rows: Sequence[LabelledAnswer]) -> dict[str, Any]:
    """Lengths of prompts, and of desirable and undesirable answers under the names that pairs have."""
    lengths = {
        "prompt": [len(text_of(row.prompt)) for row in rows],
        "chosen": [len(text_of(row.completion)) for row in rows if row.desirable],
        "rejected": [len(text_of(row.completion)) for row in rows if not row.desirable],
    }
    return {name: _histogram(values).summary() for name, values in lengths.items()}


def _histogram(values: Sequence[int]) -> LengthHistogram:
    histogram = LengthHistogram()
    histogram.add(np.array(values, dtype=np.int64))
    return histogram


def _tokens(request: ScanRequest, rows: Sequence[LabelledAnswer]) -> dict[str, Any]:
    """How many answers TRL will drop and cut, scaled up from a sample of them, and what would keep them whole."""
    step = max(1, len(rows) // _MOST_COUNTED)
    chosen = rows[::step]
    sample = [row.as_pair() for row in chosen]
    counter = TokenCounter.from_folder(tokenizer_folder(request.model or ""), request.template, in_scan=True)
    counted = counter.lengths(sample)
    known = [one for one in counted if not isinstance(one, Unrenderable)]
    labels = [row.desirable for row, one in zip(chosen, counted, strict=True) if not isinstance(one, Unrenderable)]
    limit = request.max_length
    kept = [one for one in known if is_kept(one.prompt, limit)]
    cut = sum(bool(truncated_answers(one, limit)) for one in kept)
    whole = _histogram([one.prompt + one.chosen for one in known])
    summaries = {
        "prompt": _histogram([one.prompt for one in known]).summary(),
        "chosen": _histogram([one.chosen for one, good in zip(known, labels, strict=True) if good]).summary(),
        "rejected": _histogram([one.chosen for one, good in zip(known, labels, strict=True) if not good]).summary(),
        "longest": whole.summary(),
    }
    scale = len(rows) / max(len(sample), 1)
    return {
        "summaries": {**summaries, "counted": len(sample), "exact": step == 1},
        "dropped": round((len(sample) - len(kept)) * scale),
        "truncated": round(cut * scale),
        "keeps": {name: whole.quantile(share) for name, share in (("95", 0.95), ("99", 0.99), ("100", 1.0))},
    }
