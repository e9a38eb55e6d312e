"""One round from its first answer to the choice of the run whose model goes on."""

from dpo_tui.errors import RunError
from dpo_tui.improve.round_verdicts import AGAINST_START, win_rate
from dpo_tui.improve.rounds.answer_judging import judge_held_out, judge_sampled
from dpo_tui.improve.rounds.answer_sampling import answer_held_out, sample_round
from dpo_tui.improve.rounds.round_pairs import LEAST_PAIRS, write_round_pairs
from dpo_tui.improve.rounds.round_training import group_of, train_round
from dpo_tui.improve.rounds.round_work import RoundWork
from dpo_tui.runs.atomic_files import read_json, write_json_atomic
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
    if folder.result.exists():
        return
    folder.path.mkdir(parents=True, exist_ok=True)
    # counts.json is written after the pairs: with it, answers and judgements are complete.
    if not folder.counts.exists():
        sample_round(work, number)
        judge_sampled(work, number)
        write_round_pairs(work, number)
    made = (read_json(folder.counts) or {}).get("pairs", 0)
    if made < LEAST_PAIRS:
        raise TooFewPairsError(f"round {number} has made {made} pairs, and a training needs {LEAST_PAIRS}")
    runs = train_round(work, number)
    for run in runs:
        answer_held_out(work, number, run, folder.held_out_answers(run.id), "the new model")
        judge_held_out(work, number, run)
    group = group_of(work.folder.id, number)
    best = best_run(work, number, runs)
    write_json_atomic(
        folder.result, {"run": best.id, "runs": [run.id for run in runs], "group": group.id if group else None}
    )


def best_run(work: RoundWork, number: int, runs: list[RunFolder]) -> RunFolder:
    """The run that goes on: the one whose answers win most often over the start model's; of equals the first."""
    folder = work.folder.round(number)

    def score(run: RunFolder) -> int:
        rate = win_rate(folder, run.id, AGAINST_START)
        return rate.tuned - rate.base

    return max(runs, key=score)
