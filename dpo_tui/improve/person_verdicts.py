"""Verdicts of a person on answers of an improvement: as the judge of its rounds, and beside one, to calibrate it.

The driver writes which comparisons wait for the person (``waiting.json``); `dpo-tui judge` and the app write verdicts
(``person.jsonl``), each at once. Neither writes the other's file.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dpo_tui.errors import UsageError
from dpo_tui.improve.answer_files import read_answers
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_plan import ImprovementPlan
from dpo_tui.improve.improvement_store import read_prompts
from dpo_tui.improve.round_result import read_result
from dpo_tui.improve.round_verdicts import JUDGE
from dpo_tui.judging.calibration import Calibration, calibrate
from dpo_tui.judging.judges.judge import AnswerToScore, Comparison, Side
from dpo_tui.judging.preference_pairs import AnswerPair
from dpo_tui.runs.atomic_files import append_json_line, read_json, write_json_atomic
from dpo_tui.runs.metrics_reader import read_lines

PERSON = "person"
WAITING = "waiting for your verdicts"
"""The step of an improvement whose judge is a person, while the person is asked."""
_POLL = 0.5
"""Seconds between two looks for a verdict."""
_SIDES: dict[str, Side] = {"left": "left", "right": "right", "tie": "tie"}


@dataclass(frozen=True)
class AskedPair:
    """A comparison that a person is asked for.

    Attributes:
        key: names it in ``person.jsonl``.
        pair: the two answers, without whose they are.
    """

    key: str
    pair: AnswerPair


class PersonJudge:
    """A person as the judge of an improvement; see `dpo_tui.judging.judges.judge.Judge`.

    Args:
        folder: of the improvement.
        progress: called while it waits with how many verdicts have come, of how many; ends the waiting by an exception.
    """

    name = "a person"
    gives_scores = False

    def __init__(self, folder: ImprovementFolder, progress: Callable[[int, int], None]) -> None:
        self._folder, self._progress = folder, progress

    def score(self, answers: Sequence[AnswerToScore]) -> Iterator[tuple[AnswerToScore, float]]:
        """Refuse.

        Raises:
            UsageError: always.
        """
        raise UsageError("a person gives no scores")

    def compare(self, pairs: Sequence[AnswerPair]) -> Iterator[tuple[AnswerPair, Comparison]]:
        """Ask for all comparisons at once, and yield them as the verdicts come, in any order."""
        left = {pair_key(pair): pair for pair in pairs}
        _ask(self._folder, list(left.values()))
        while left:
            given = {str(line.get("key")): line.get("verdict") for line in read_lines(self._folder.person_verdicts)}
            for key in [key for key in left if given.get(key) in _SIDES]:
                yield left.pop(key), Comparison(_SIDES[str(given[key])])
            self._progress(len(pairs) - len(left), len(pairs))
            if left:
                time.sleep(_POLL)
        _ask(self._folder, [])


def pair_key(pair: AnswerPair) -> str:
    """A digest of a prompt and two answers in their order."""
    text = f"{pair.id}\0{pair.left}\0{pair.right}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=12).hexdigest()


def asked_pairs(folder: ImprovementFolder, plan: ImprovementPlan) -> list[AskedPair]:
    """Return what a person can be asked about: what a round waits for, else held-out answers to calibrate its judge.

    Raises:
        RunError: the improvement's prompts cannot be read.
    """
    given = {str(line.get("key")) for line in read_lines(folder.person_verdicts)}
    if plan.judge.get("kind") == PERSON:
        pairs = _waiting(folder)
        return [AskedPair(pair_key(pair), pair) for pair in pairs if pair_key(pair) not in given]
    return [one for one, _ in _judged_pairs(folder, plan) if one.key not in given]


def _waiting(folder: ImprovementFolder) -> list[AnswerPair]:
    """The comparisons that a round waits for; none of a file that is torn, or not as its driver writes it."""
    found = (read_json(folder.waiting) or {}).get("pairs")
    waiting = found if isinstance(found, list) else []
    try:
        return [
            AnswerPair(str(one["id"]), list(one["prompt"]), str(one["left"]), str(one["right"]), place, len(waiting))
            for place, one in enumerate(waiting, 1)
        ]
    except (KeyError, TypeError):
        return []


def record_verdict(folder: ImprovementFolder, asked: AskedPair, verdict: Side) -> None:
    """Write down a person's verdict."""
    append_json_line(folder.person_verdicts, {"t": time.time(), "key": asked.key, "verdict": verdict})


def calibration_of(folder: ImprovementFolder, plan: ImprovementPlan) -> Calibration | None:
    """Return how far the judge agrees with the person on held-out answers; None where the person gave no verdict."""
    given = {str(line.get("key")): line.get("verdict") for line in read_lines(folder.person_verdicts)}
    if plan.judge.get("kind") == PERSON:
        return None
    both = [
        (_SIDES[str(given[one.key])], judged)
        for one, judged in _judged_pairs(folder, plan)
        if given.get(one.key) in _SIDES
    ]
    return calibrate(both) if both else None


def _judged_pairs(folder: ImprovementFolder, plan: ImprovementPlan) -> Iterator[tuple[AskedPair, Side]]:
    """The held-out comparisons of complete rounds that the judge has decided, with its verdict; newest round first."""
    prompts = {one.id: one.messages for one in read_prompts(folder)}
    start = {one.id: one.text for one in read_answers(folder.start_answers)}
    for number in range(plan.rounds, 0, -1):
        files = folder.round(number)
        if (result := read_result(files)) is None:
            continue
        new = {one.id: one.text for one in read_answers(files.held_out_answers(result.run))}
        for line in read_lines(files.verdicts(result.run)):
            key, side = str(line.get("id")), line.get("left")
            if line.get("role") != JUDGE or line.get("against") != "start" or side not in ("tuned", "base"):
                continue
            if not (key in new and key in start and key in prompts):
                continue  # its answers are gone: there is nothing to show
            left, right = (new[key], start[key]) if side == "tuned" else (start[key], new[key])
            pair = AnswerPair(key, prompts[key], left, right, 0, 0)
            yield AskedPair(pair_key(pair), pair), _side_of(line.get("winner"), side)


def _side_of(winner: Any, left: str) -> Side:
    if winner not in ("tuned", "base"):
        return "tie"
    return "left" if winner == left else "right"


def _ask(folder: ImprovementFolder, pairs: Sequence[AnswerPair]) -> None:
    waiting = [{"id": one.id, "prompt": one.prompt, "left": one.left, "right": one.right} for one in pairs]
    write_json_atomic(folder.waiting, {"pairs": waiting})
