"""The judge's word on the sampled answers of a round, and on held-out answers; each is written down as it comes."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from dpo_tui.improve.answer_files import read_answers
from dpo_tui.improve.improvement_store import ImprovementPrompt
from dpo_tui.improve.person_verdicts import PERSON, WAITING, PersonJudge
from dpo_tui.improve.round_verdicts import AGAINST_LAST, AGAINST_START, JUDGE, SECOND_JUDGE
from dpo_tui.improve.rounds.round_work import RoundWork
from dpo_tui.improve.rounds.usable_answers import UsableAnswers, usable_answers
from dpo_tui.judging.judges.judge import AnswerToScore, Judge, JudgeChoice
from dpo_tui.judging.judges.open_judge import open_judge
from dpo_tui.judging.preference_pairs import AnswerPair
from dpo_tui.runs.atomic_files import append_json_line
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.metrics_reader import read_lines


def judge_sampled(work: RoundWork, number: int) -> None:
    """Let the judge score, or compare, the usable answers of a round that it has not judged yet.

    Raises:
        DpoTuiError: the judge cannot be opened, or does not answer as it should.
    """
    folder = work.folder.round(number)
    usable = usable_answers(read_answers(folder.answers))
    step = f"round {number}: judging answers"
    with _opened(work, JudgeChoice.from_document(work.plan.judge), f"round {number}: ") as judge:
        judge_all = _score_all if judge.gives_scores else _compare_all
        judge_all(work, judge, usable, folder.judgements, step)


def _opened(work: RoundWork, choice: JudgeChoice, prefix: str) -> AbstractContextManager[Judge]:
    """Open a judge; a person is asked through the improvement's files."""
    if choice.kind != PERSON:
        return open_judge(choice)
    waits = partial(work.progress, f"{prefix}{WAITING}")
    return nullcontext(PersonJudge(work.folder, waits))


def _score_all(work: RoundWork, judge: Judge, usable: UsableAnswers, path: Path, step: str) -> None:
    scored = {(line.get("id"), line.get("answer")) for line in read_lines(path)}
    wanted = [
        AnswerToScore(prompt.id, prompt.messages, text)
        for prompt, candidates in _judged(work, usable)
        for text in candidates
    ]
    missing = [one for one in wanted if (one.id, one.answer) not in scored]
    done = len(wanted) - len(missing)
    work.progress(step, done, len(wanted))
    for one, score in judge.score(missing) if missing else ():
        append_json_line(path, {"id": one.id, "answer": one.answer, "score": score, "by": judge.name})
        done += 1
        work.progress(step, done, len(wanted))


def _compare_all(work: RoundWork, judge: Judge, usable: UsableAnswers, path: Path, step: str) -> None:
    compared = {(line.get("id"), line.get("left"), line.get("right")) for line in read_lines(path)}
    wanted = [
        AnswerPair(prompt.id, prompt.messages, *_in_order(prompt.id, one, other), place, len(usable.answers))
        for place, (prompt, candidates) in enumerate(_judged(work, usable), 1)
        for one, other in combinations(candidates, 2)
    ]
    missing = [pair for pair in wanted if (pair.id, pair.left, pair.right) not in compared]
    done = len(wanted) - len(missing)
    work.progress(step, done, len(wanted))
    for pair, comparison in judge.compare(missing) if missing else ():
        sides = {"id": pair.id, "left": pair.left, "right": pair.right}
        append_json_line(path, sides | {"verdict": comparison.verdict, "by": judge.name, **comparison.details})
        done += 1
        work.progress(step, done, len(wanted))


def judge_held_out(work: RoundWork, number: int, run: RunFolder) -> None:
    """Let the judges compare a run's answers to the held-out prompts with those of the start and of the round before.

    They see two answers and not whose they are: which one is shown first is drawn by a hash. Equal answers need no
    judge. In the first round both are the start model, and its answers are compared once.

    Raises:
        DpoTuiError: a judge cannot be opened, or does not answer as it should.
    """
    folder = work.folder.round(number)
    new = {one.id: one.text for one in read_answers(folder.held_out_answers(run.id))}
    others = {AGAINST_START: {one.id: one.text for one in read_answers(work.folder.start_answers)}}
    if (before := work.run_before(number)) is not None:
        earlier = work.folder.round(number - 1).held_out_answers(before.id)
        others[AGAINST_LAST] = {one.id: one.text for one in read_answers(earlier)}
    step = f"round {number}: judging the result on held-out prompts"
    for role, document in ((JUDGE, work.plan.judge), (SECOND_JUDGE, work.plan.second_judge)):
        if document is not None:
            verdicts = _Verdicts(folder.verdicts(run.id), role, work.plan.seed)
            verdicts.complete(work, JudgeChoice.from_document(document), new, others, step)


class _Verdicts:
    """One judge's verdicts on a run's held-out answers.

    Args:
        path: of their file.
        role: which judge's.
        seed: draws which answer is on which side.
    """

    def __init__(self, path: Path, role: str, seed: int) -> None:
        self._path, self._role, self._seed = path, role, seed
        self._there = {(line["against"], line["id"]) for line in read_lines(path) if line.get("role") == role}

    def complete(
        self,
        work: RoundWork,
        choice: JudgeChoice,
        new: Mapping[str, str],
        others: Mapping[str, Mapping[str, str]],
        step: str,
    ) -> None:
        """Ask the judge for the verdicts that are missing."""
        total = len(others) * len(work.held_out)
        for against, answers in others.items():
            for prompt in work.held_out:
                if new[prompt.id] == answers[prompt.id] and (against, prompt.id) not in self._there:
                    self._record(against, prompt.id, "same", "nobody", {})
        work.progress(step, len(self._there), total)
        if len(self._there) == total:
            return
        with _opened(work, choice, f"{step.partition(': ')[0]}: ") as judge:
            for against, answers in others.items():
                for pair, comparison in judge.compare(self._missing(work, against, new, answers)):
                    new_is_left = self._new_is_left(against, pair.id)
                    tie = comparison.verdict == "tie"
                    winner = "tie" if tie else _winner(comparison.verdict == "left", new_is_left)
                    details = {"left": "tuned" if new_is_left else "base", **comparison.details}
                    self._record(against, pair.id, winner, judge.name, details)
                    work.progress(step, len(self._there), total)

    def _missing(
        self, work: RoundWork, against: str, new: Mapping[str, str], answers: Mapping[str, str]
    ) -> list[AnswerPair]:
        found = []
        for place, prompt in enumerate(work.held_out, 1):
            if (against, prompt.id) in self._there:
                continue
            sides = (new[prompt.id], answers[prompt.id])
            left, right = sides if self._new_is_left(against, prompt.id) else sides[::-1]
            found.append(AnswerPair(prompt.id, prompt.messages, left, right, place, len(work.held_out)))
        return found

    def _record(self, against: str, key: str, winner: str, by: str, details: Mapping[str, Any]) -> None:
        line = {"id": key, "role": self._role, "against": against, "winner": winner, "by": by, **details}
        append_json_line(self._path, line)
        self._there.add((against, key))

    def _new_is_left(self, against: str, key: str) -> bool:
        digest = hashlib.blake2b(f"{self._seed} {against} {key}".encode(), digest_size=1).digest()
        return bool(digest[0] % 2)


def _winner(left_won: bool, new_is_left: bool) -> str:
    return "tuned" if left_won == new_is_left else "base"


def _in_order(key: str, one: str, other: str) -> tuple[str, str]:
    """Which of two sampled answers is shown on the left: a hash of both decides, the same after an interruption."""
    digest = hashlib.blake2b(f"{key}\0{one}\0{other}".encode("utf-8", "surrogatepass"), digest_size=1).digest()
    return (one, other) if digest[0] % 2 else (other, one)


def _judged(work: RoundWork, usable: UsableAnswers) -> Iterator[tuple[ImprovementPrompt, list[str]]]:
    """The training prompts of which there are answers to choose between."""
    for prompt in work.training:
        candidates = usable.answers.get(prompt.id, [])
        if len(candidates) > 1:
            yield prompt, candidates
