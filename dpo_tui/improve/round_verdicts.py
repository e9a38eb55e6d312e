"""Win rates of a round's model on the held-out prompts, from the verdicts in its files. Standard library only."""

from dpo_tui.improve.improvement_folder import RoundFolder
from dpo_tui.judging.win_rate import WinRate, tally
from dpo_tui.runs.metrics_reader import read_lines

AGAINST_START, AGAINST_LAST = "start", "last"
"""Whose answers a round's are compared with: the start model's, or those of the round before."""
JUDGE, SECOND_JUDGE = "judge", "second"
"""Whose verdicts: of the judge that also made the pairs, or of the other one, which has no say in anything."""


def win_rate(folder: RoundFolder, run: str, against: str, role: str = JUDGE) -> WinRate:
    """Count the verdicts on a run's answers to the held-out prompts.

    Args:
        folder: of the round.
        run: whose answers.
        against: whose answers they were compared with: ``start`` or ``last``.
        role: which judge's verdicts.

    Returns:
        With the run as the tuned model.
    """
    winners = {
        str(line.get("id")): str(line.get("winner"))
        for line in read_lines(folder.verdicts(run))
        if line.get("against") == against and line.get("role") == role
    }
    return tally(winners.values())
