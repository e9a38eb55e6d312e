"""One improvement as plain data: figures by round, what it does now, why it ended, answers before and after."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpo_tui.errors import RunError
from dpo_tui.groups.group_plan import read_plan as read_group_plan
from dpo_tui.groups.group_status import group_status
from dpo_tui.improve.drift_warnings import drift_warnings
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_status import ImprovementStatus, groups_of, improvement_status
from dpo_tui.improve.person_verdicts import PERSON, asked_pairs, calibration_of
from dpo_tui.improve.report.report_figures import complete_rounds, samples_after
from dpo_tui.improve.report.report_markdown import rate_text
from dpo_tui.improve.round_figures import round_figures, start_features
from dpo_tui.improve.round_verdicts import AGAINST_LAST, AGAINST_START, JUDGE, SECOND_JUDGE
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.views.improvement_rows import shown_status, step_text
from dpo_tui.views.styled_text import Paragraph

PAIRS, ACCURACY, OVER_START, OVER_LAST, SECOND, KL, LENGTH, WARNINGS = (
    "pairs",
    "held-out accuracy",
    "wins over start",
    "over last round",
    "second judge",
    "KL, nats",
    "words an answer",
    "warnings",
)
"""The rows of the table of rounds."""
_SAMPLES = 20
"""Held-out prompts whose answers are shown."""


@dataclass(frozen=True)
class RoundColumn:
    """One round.

    Attributes:
        number: counted from 1.
        complete: whether its result is known.
        figures: the text of each row that is known.
        runs: ids of its runs, the one whose model goes on first.
        group: the id of their group; None where that is not known.
        warnings: what has changed in its answers besides better or worse.
    """

    number: int
    complete: bool
    figures: Mapping[str, str]
    runs: tuple[str, ...] = ()
    group: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImprovementView:
    """An improvement at one moment.

    Attributes:
        name: as the user called it; its id where that cannot be read.
        status: as `dpo_tui.views.improvement_rows.shown_status` gives it.
        live: whether it has a driver.
        step: what it does now; empty where it does nothing.
        fraction: how far the step is, 0 to 1; None where that is not known.
        rows: names of the rows of the table that have a figure in some round.
        rounds: those that have begun.
        waiting: how many pairs the person can be asked about.
        by_hand: whether rounds wait for the person's verdicts.
        page: the sentences and samples below the table.
    """

    name: str
    status: str = ""
    live: bool = False
    step: str = ""
    fraction: float | None = None
    rows: tuple[str, ...] = ()
    rounds: tuple[RoundColumn, ...] = ()
    waiting: int = 0
    by_hand: bool = False
    page: tuple[Paragraph, ...] = ()


@dataclass
class ImprovementReader:
    """Reads an improvement again and again, and what does not change any more once; for one thread at a time.

    Args:
        folder: the improvement.
    """

    folder: ImprovementFolder
    _complete: dict[int, RoundColumn] = field(default_factory=dict)
    _start_words: float | None = None
    _samples: tuple[int, tuple[Paragraph, ...]] = (0, ())
    _asked: tuple[tuple[int, ...], int, str] = ((), 0, "")

    def read(self) -> ImprovementView:
        """Read it; one that cannot be read is a view whose page says why."""
        try:
            return self._read()
        except RunError as error:
            hint: list[Paragraph] = [(error.hint, "muted")] if error.hint else []
            return ImprovementView(self.folder.id, "unknown", page=((error.message, "bad"), *hint))

    def _read(self) -> ImprovementView:
        folder = self.folder
        status = improvement_status(folder)
        plan, state = status.plan, status.state
        if self._start_words is None and (start := start_features(folder)) is not None:
            self._start_words = start.words
        rounds = [self._complete_round(status, number) for number in complete_rounds(folder, plan)]
        if state.round > len(rounds):
            rounds.append(_round_under_way(folder, state.round))
        waiting, calibration = self._asked_of_person(status, len(rounds))
        named = {name for one in rounds for name in one.figures}
        rows = (PAIRS, ACCURACY, OVER_START, OVER_LAST, SECOND, KL, LENGTH, WARNINGS)
        by_hand = plan.judge.get("kind") == PERSON
        page: list[Paragraph] = [*_sentences(folder, status), *_to_judge(waiting, by_hand, status.live)]
        page += [(f"round {one.number}: {text}", "warn") for one in rounds for text in one.warnings]
        page += [(calibration, "text")] if calibration else []
        page += self._answers(rounds)
        return ImprovementView(
            name=plan.name,
            status=shown_status(folder, status),
            live=status.live,
            step=step_text(status),
            fraction=state.done / state.total if status.live and state.total else None,
            rows=tuple(name for name in rows if name in named),
            rounds=tuple(rounds),
            waiting=waiting,
            by_hand=by_hand,
            page=tuple(page),
        )

    def _complete_round(self, status: ImprovementStatus, number: int) -> RoundColumn:
        if number not in self._complete:
            figures = round_figures(self.folder, status.plan, number)
            start = start_features(self.folder)
            warnings = drift_warnings(start.to_dict() if start else None, figures)
            run = str(figures["run"])
            others = [str(one["run"]) for one in figures["runs"] if one["run"] != run]
            self._complete[number] = RoundColumn(
                number,
                True,
                self._figures(figures, warnings),
                (run, *others),
                figures["group"] if isinstance(figures["group"], str) else None,
                tuple(warnings),
            )
        return self._complete[number]

    def _figures(self, figures: Mapping[str, Any], warnings: list[str]) -> dict[str, str]:
        wins, features = figures["wins"], figures["features"]
        curve = figures["curves"].get("eval_rewards/accuracies")
        start = "" if self._start_words is None else f" (start {self._start_words:.0f})"
        found = {
            PAIRS: str(figures["counts"].get("pairs", "")),
            ACCURACY: f"{curve[-1][1]:.2f}" if curve else "",
            OVER_START: rate_text(wins[JUDGE][AGAINST_START]),
            OVER_LAST: rate_text(wins[JUDGE][AGAINST_LAST]),
            SECOND: rate_text(wins[SECOND_JUDGE][AGAINST_START]) if SECOND_JUDGE in wins else "",
            KL: "not estimated" if figures["kl"] is None else f"{figures['kl']:z.2f}",
            LENGTH: f"{features['words']:.0f}{start}" if features else "",
            WARNINGS: str(len(warnings)),
        }
        return {name: text for name, text in found.items() if text}

    def _asked_of_person(self, status: ImprovementStatus, rounds: int) -> tuple[int, str]:
        """How many pairs wait for the person, and how far the judge agrees with them; read where a file has changed."""
        folder = self.folder
        key = (rounds, len(self._complete), *_file_state(folder.waiting), *_file_state(folder.person_verdicts))
        if self._asked[0] != key:
            found = calibration_of(folder, status.plan)
            self._asked = (key, len(asked_pairs(folder, status.plan)), found.summary() if found else "")
        return self._asked[1], self._asked[2]

    def _answers(self, rounds: list[RoundColumn]) -> tuple[Paragraph, ...]:
        last = next((one for one in reversed(rounds) if one.complete), None)
        if last is not None and self._samples[0] != last.number:
            page: list[Paragraph] = [
                ("", "text"),
                (f"Held-out answers at the start and after round {last.number}", "heading"),
            ]
            for sample in samples_after(self.folder, last.number, last.runs[0], _SAMPLES):
                page += [
                    ("", "text"),
                    (sample["prompt"], "accent"),
                    ("start:", "muted"),
                    (f"  {sample['before']}", "text"),
                ]
                page += [("now:", "muted"), (f"  {sample['after']}", "good")]
            self._samples = (last.number, tuple(page))
        return self._samples[1]


def _round_under_way(folder: ImprovementFolder, number: int) -> RoundColumn:
    """A round without a result: its pairs once they are made, and its runs once they have begun."""
    pairs = (read_json(folder.round(number).counts) or {}).get("pairs")
    figures = {PAIRS: str(pairs)} if pairs is not None else {}
    for group in groups_of(folder):
        try:
            if (read_group_plan(group).part_of or {}).get("round") == number:
                return RoundColumn(number, False, figures, tuple(run.id for run in group_status(group).runs), group.id)
        except RunError:
            continue
    return RoundColumn(number, False, figures)


def _sentences(folder: ImprovementFolder, status: ImprovementStatus) -> list[Paragraph]:
    """Why it ended, what was asked for, and where its report is."""
    plan = status.plan
    roles = {"done": "good", "failed": "bad", "lost": "bad"}
    page: list[Paragraph] = []
    if not status.live and status.reason:
        page.append((f"{status.status.capitalize()}: {status.reason}", roles.get(status.status, "text")))
    judge = (
        "you"
        if plan.judge.get("kind") == PERSON
        else f"{plan.judge.get('kind')} {plan.judge.get('target', '')}".strip()
    )
    target = "" if plan.target is None else f", until {plan.target:.0%} are won over the start, surely"
    asked = (
        f"{most_rounds(plan.rounds)} of {plan.answers} answers a prompt from {plan.prompts}, judged by {judge}{target}."
    )
    report: list[Paragraph] = [(f"Report: {folder.report}", "text")] if folder.report.exists() else []
    return [*page, *report, (asked, "muted")]


def most_rounds(rounds: int) -> str:
    """How many rounds there may be, at the start of a sentence."""
    return f"Up to {rounds} {'round' if rounds == 1 else 'rounds'}"


def _to_judge(waiting: int, by_hand: bool, live: bool) -> list[Paragraph]:
    if not waiting:
        return []
    if by_hand:
        after = "" if live else " They count when it is resumed."
        return [(f"{waiting} waiting for you: v shows two answers at a time.{after}", "accent")]
    # Below stand the answers of some of the same pairs, with whose they are.
    text = (
        f"v: judge held-out pairs blind ({waiting} left) before you read on, and see how far its judge agrees with you."
    )
    return [(text, "muted")]


def _file_state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (-1, -1)
    return (found.st_mtime_ns, found.st_size)
