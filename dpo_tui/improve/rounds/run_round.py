"""One round from its first answer to the choice of the run whose model goes on."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dpo_tui.errors import RunError
from dpo_tui.improve.round_result import RoundResult, read_counts, read_result
from dpo_tui.improve.round_verdicts import AGAINST_START, win_rate
from dpo_tui.improve.rounds.answer_judging import judge_held_out, judge_sampled
from dpo_tui.improve.rounds.answer_sampling import answer_held_out, sample_round
from dpo_tui.improve.rounds.round_pairs import LEAST_PAIRS, write_round_pairs
from dpo_tui.improve.rounds.round_training import combinations_without_result, group_of, train_round
from dpo_tui.improve.rounds.round_work import RoundWork
from dpo_tui.runs.atomic_files import write_json_atomic
from dpo_tui.runs.folder import RunFolder


class TooFewPairsError(RunError):
    """A round has made fewer pairs than a training needs."""


def run_round(work: RoundWork, number: int) -> None:
    """Run a round, or go on with it where it was interrupted; nothing that is there is made again.

    Raises:
        TooFewPairsError: there is nothing to train on.
        RunError: the training failed, or was stopped.
        DpoTuiError: a model or a judge cannot be used.
    """
    folder = work.folder.round(number)
    if read_result(folder) is not None and read_counts(folder) is not None:
        return
    folder.path.mkdir(parents=True, exist_ok=True)
    # counts.json is written after the pairs: with it, answers and judgements are complete.
    if (counts := read_counts(folder)) is None:
        sample_round(work, number)
        judge_sampled(work, number)
        counts = write_round_pairs(work, number)
    if counts["pairs"] < LEAST_PAIRS:
        raise TooFewPairsError(_too_few(number, counts))
    runs = train_round(work, number)
    for run in runs:
        answer_held_out(work, number, run, folder.held_out_answers(run.id), "the new model")
        judge_held_out(work, number, run)
    group = group_of(work.folder.id, number)
    best = best_run(work, number, runs)
    failed = combinations_without_result(group) if group else {}
    result = RoundResult(best.id, [run.id for run in runs], group.id if group else None, failed)
    write_json_atomic(folder.result, asdict(result))


def best_run(work: RoundWork, number: int, runs: list[RunFolder]) -> RunFolder:
    """The run that goes on: the one whose answers win most often over the start model's; of equals the first."""
    folder = work.folder.round(number)

    def score(run: RunFolder) -> int:
        rate = win_rate(folder, run.id, AGAINST_START)
        return rate.tuned - rate.base

    return max(runs, key=score)


def _too_few(number: int, counts: Mapping[str, Any]) -> str:
    """Say how few pairs a round has made and where its answers have gone, which tells what to change."""
    judge = counts["judge"]
    gone = [f"{count} answers ({why})" for why, count in counts["dropped"].items()]
    gone += [f"{count} prompts with {why}" for why, count in counts["without_pair"].items()]
    said = f"round {number} has made {counts['pairs']} pairs, and a training needs {LEAST_PAIRS}"
    if judge["contradicted"]:
        said += f"; in {judge['contradicted']} of {judge['asked']} comparisons the judge contradicted itself"
    if judge["unread"]:
        said += f"; {judge['unread']} replies of the judge had no verdict"
    return f"{said}; left out of {counts['answers']} answers to {counts['prompts']} prompts: {', '.join(gone)}"
