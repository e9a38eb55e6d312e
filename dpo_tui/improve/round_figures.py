"""The figures of a complete round, from the files of the round and of its runs. They decide whether another follows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from dpo_tui import paths
from dpo_tui.errors import RunError
from dpo_tui.improve.answer_features import AnswerFeatures, features_of
from dpo_tui.improve.answer_files import read_answers
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_plan import ImprovementPlan
from dpo_tui.improve.round_result import read_counts, read_result
from dpo_tui.improve.round_verdicts import AGAINST_LAST, AGAINST_START, JUDGE, SECOND_JUDGE, win_rate
from dpo_tui.judging.win_rate import WinRate
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.metrics_reader import latest, read_lines
from dpo_tui.runs.typed_documents import fits_number

CURVES = ("loss", "rewards/accuracies", "eval_loss", "eval_rewards/accuracies", "eval_kl")
"""Metrics of a run whose course is kept in the report, by step."""
_MOST_POINTS = 200
"""Points of a curve at most: a report is read on one page."""


def round_figures(folder: ImprovementFolder, plan: ImprovementPlan, number: int) -> dict[str, Any]:
    """Return the figures of a complete round.

    Returns:
        ``number``, ``run``, ``runs`` (each with its win rate over the start), ``group``, ``without_result`` (why runs
        of a sweep have none), ``counts`` of answers and pairs, ``wins`` by judge and opponent, ``features`` of its
        held-out answers, ``kl`` of its run in nats per answer, and ``curves``.

    Raises:
        RunError: the round is not complete, or its counts are gone.
    """
    files = folder.round(number)
    result = read_result(files)
    counts = read_counts(files)
    if result is None or counts is None:
        missing = files.result if result is None else files.counts
        raise RunError(f"improvement {folder.id}, round {number}: {missing.name} is missing or not as it was written")
    run = result.run
    roles = (JUDGE, *((SECOND_JUDGE,) if plan.second_judge else ()))
    opponents = (AGAINST_START, AGAINST_LAST) if number > 1 else (AGAINST_START,)
    wins = {role: {other: win_figures(win_rate(files, run, other, role)) for other in opponents} for role in roles}
    if number == 1:  # the round before the first is the start
        for by_opponent in wins.values():
            by_opponent[AGAINST_LAST] = by_opponent[AGAINST_START]
    answers = read_answers(files.held_out_answers(run))
    features = features_of([one.text for one in answers], [one.cut for one in answers])
    metrics = RunFolder(paths.runs() / run).metrics
    return {
        "number": number,
        "run": run,
        "runs": [{"run": one, "wins": win_figures(win_rate(files, one, AGAINST_START))} for one in result.runs],
        "group": result.group,
        "without_result": result.without_result,
        "counts": counts,
        "wins": wins,
        "features": features.to_dict() if features else None,
        "kl": latest(metrics).get("eval_kl"),
        "curves": curves_of(read_lines(metrics)),
    }


def start_features(folder: ImprovementFolder) -> AnswerFeatures | None:
    """What the start model's answers to the held-out prompts look like; None before there are any."""
    answers = read_answers(folder.start_answers)
    return features_of([one.text for one in answers], [one.cut for one in answers])


def curves_of(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[list[float]]]:
    """Return the course of a run's metrics as pairs of step and value, thinned where there are many."""
    curves: dict[str, list[list[float]]] = {}
    for name in CURVES:
        points = [
            [float(line["step"]), float(line[name])]
            for line in lines
            if fits_number(line.get(name)) and fits_number(line.get("step"))
        ]
        if points:
            stride = -(-len(points) // _MOST_POINTS)
            kept = points[::stride]
            curves[name] = kept if kept[-1] == points[-1] else [*kept, points[-1]]
    return curves


def win_figures(rate: WinRate) -> dict[str, Any]:
    """A win rate as the report has it."""
    return asdict(rate) | {"rate": rate.rate, "interval": list(rate.interval) if rate.interval else None}
