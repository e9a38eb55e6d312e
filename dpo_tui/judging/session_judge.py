"""A judge put to a run's judging: on the pairs that wait, or on those that the person judged, to compare the two."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dpo_tui.errors import UsageError
from dpo_tui.judging.calibration import FEWEST_PAIRS, Calibration, calibrate
from dpo_tui.judging.judges.judge import Comparison, Judge, Side
from dpo_tui.judging.judging_session import Session
from dpo_tui.judging.preference_pairs import AnswerPair
from dpo_tui.judging.rubric_draft import RubricExample
from dpo_tui.runs.atomic_files import write_json_atomic
from dpo_tui.runs.folder import RunFolder


def judge_session(session: Session, judge: Judge, rubric: str = "") -> Iterator[Comparison]:
    """Let a judge compare every pair that has no verdict yet; each verdict is recorded before the next is awaited.

    Args:
        session: with all its answers.
        judge: that compares.
        rubric: hash of the rubric that it has, for the records; empty for none.

    Yields:
        What it says, a pair each.
    """
    about = {"rubric": rubric} if rubric else {}
    for pair, comparison in judge.compare(session.waiting()):
        session.vote(pair, comparison.verdict, by=judge.name, **comparison.details, **about)
        yield comparison


@dataclass(frozen=True)
class JudgedByPerson:
    """A pair with the person's verdict.

    Attributes:
        pair: as it was shown.
        verdict: of the person; two answers that are both bad count as a tie.
    """

    pair: AnswerPair
    verdict: Side


def judged_by_person(session: Session) -> list[JudgedByPerson]:
    """Return the pairs on which the person's verdict counts."""
    found = []
    for record in session.verdicts():
        if record.get("by") != "person":
            continue
        pair = session.pair(str(record["id"]))
        left, right = session.sides(pair.id)
        sides: dict[str, Side] = {left: "left", right: "right"}
        found.append(JudgedByPerson(pair, sides.get(record["winner"], "tie")))
    return found


def check_judged_by_person(session: Session) -> None:
    """Refuse too few verdicts of the person, before a judge is opened.

    Raises:
        UsageError: there are too few to state an agreement.
    """
    if (count := len(judged_by_person(session))) < FEWEST_PAIRS:
        raise UsageError(
            f"agreement is stated from {FEWEST_PAIRS} pairs on, and you have judged {count}",
            hint=f"dpo-tui judge {session.folder.id} shows the next ones",
        )


def calibrate_judge(session: Session, judge: Judge, rubric: str = "") -> Calibration:
    """Ask a judge about the pairs that the person judged, and compare; no verdict of the judging changes.

    The result is also written to ``judge/calibration.json``.

    Args:
        session: with verdicts of the person.
        judge: to be compared.
        rubric: hash of the rubric that it has; empty for none.

    Raises:
        UsageError: there are too few verdicts of the person; the judge is not asked then.
        DpoTuiError: the judge failed.
    """
    check_judged_by_person(session)
    judged = judged_by_person(session)
    verdicts: dict[str, Side] = {
        pair.id: comparison.verdict for pair, comparison in judge.compare([one.pair for one in judged])
    }
    result = calibrate([(one.verdict, verdicts[one.pair.id]) for one in judged])
    document = {
        "t": time.time(),
        "judge": judge.name,
        "rubric": rubric,
        **vars(result),
        "verdicts": [{"id": one.pair.id, "person": one.verdict, "judge": verdicts[one.pair.id]} for one in judged],
    }
    write_json_atomic(calibration_file(session.folder), document)
    return result


def calibration_file(folder: RunFolder) -> Path:
    """Return the path of a run's latest calibration."""
    return folder.path / "judge" / "calibration.json"


def rubric_examples(session: Session) -> list[RubricExample]:
    """Return the person's verdicts for one side, as examples from which a rubric is drafted."""
    examples = []
    for one in judged_by_person(session):
        if one.verdict != "tie":
            answers = (one.pair.left, one.pair.right)
            better, worse = answers if one.verdict == "left" else answers[::-1]
            examples.append(RubricExample(one.pair.prompt, better, worse))
    return examples
