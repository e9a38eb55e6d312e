"""Text of the judge screen: the runs that can be judged, what to do next, and the win rate with its meaning."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from dpo_tui.errors import RunError
from dpo_tui.judging.judging_session import Session
from dpo_tui.judging.win_rate import WinRate, wilson
from dpo_tui.runs.folder import RunFolder
from dpo_tui.text.printable import printable
from dpo_tui.views.monitor_text import prompt_text
from dpo_tui.views.run_list import RunSummary
from dpo_tui.views.styled_text import Paragraph

PROMPTS = 20
"""Prompts that a judging begins with, and that each request for more adds."""
_EVEN = 0.5
"""The win rate of two models that are as good as each other."""
_MOST_VERDICTS = 1000
"""If more verdicts than these would be needed, their number is not shown."""
_WINNERS = {"tuned": "tuned", "base": "base", "tie": "tie", "both-bad": "both bad", "same": "the same"}
_NAME_WIDTH = 26


@dataclass(frozen=True, slots=True)
class JudgeableRun:
    """A run that saved an adapter or a model.

    Attributes:
        folder: its folder.
        name: the user's name for it.
        description: one line for a list: name, verdicts so far, model.
    """

    folder: RunFolder
    name: str
    description: str


def judgeable_runs(runs: Sequence[RunSummary]) -> list[JudgeableRun]:
    """The runs that can be judged, in the order given. Reads the disk."""
    found = []
    for run in runs:
        if run.folder.has_result:
            session = Session.existing(run.folder)
            judged = f"{session.tally().judged} of {session.total} judged" if session is not None else "not judged yet"
            name = printable(run.name, single_line=True)[: _NAME_WIDTH - 2]
            description = f"{name:<{_NAME_WIDTH}}{judged:<20}{run.model}"
            found.append(JudgeableRun(run.folder, run.name, description.rstrip()))
    return found


@contextmanager
def reporting_save_errors(folder: RunFolder) -> Iterator[None]:
    """Context in which files of a judging are written; an `OSError` becomes a `RunError`.

    Args:
        folder: the run that is judged.

    Raises:
        RunError: a file cannot be written; what was saved before is intact.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            f"the judging of run {folder.id} cannot be saved: {error.strerror or error}",
            hint="Is there room on the disk, and is the run still there? What was saved before stays.",
        ) from error


def before_answers(session: Session) -> list[Paragraph]:
    """The page shown before the models have answered."""
    missing = len(session.unanswered())
    return [
        (f"{missing} of {session.total} prompts are not answered yet.", "heading"),
        ("", "text"),
        ("enter has the base model and the tuned model answer them, on this machine.", "text"),
        (
            "A process of its own does it. Judging begins with the first pair; what is answered is kept, "
            "whenever you leave.",
            "muted",
        ),
        *_caution(session),
    ]


def while_answering(session: Session, done: int, total: int) -> list[Paragraph]:
    """The page shown while the models answer, until the first pair can be judged."""
    progress = (
        f"{done} of {total} answers are there." if done else "Loading the libraries and the models takes a while."
    )
    return [
        ("Both models answer the prompts.", "heading"),
        ("", "text"),
        (progress, "text"),
        ("The first pair comes by itself. You may leave: it goes on as long as the app is open.", "muted"),
        *_caution(session),
    ]


def result(session: Session) -> list[Paragraph]:
    """The page of the result: the win rate, its interval and meaning, and the winner for each prompt."""
    tally = session.tally()
    text: list[Paragraph] = [(tally.summary(), "heading"), ("", "text"), (meaning(tally), _tone(tally))]
    text += _caution(session)
    if left := session.total - tally.judged:
        text.append((f"{left} of {session.total} pairs are not judged yet; esc goes on with them.", "muted"))
    if tally.decided:
        text.append((f"w writes the {tally.decided} decided pairs as preference pairs to train on.", "muted"))
    if tally.judged:
        text += [("", "text"), ("Who won", "heading")]
        for verdict in session.verdicts():
            prompt = printable(prompt_text(session.prompt(str(verdict["id"]))), single_line=True)
            text.append((f"{_WINNERS.get(verdict['winner'], ''):<9} {prompt}", "code"))
    return text


def meaning(tally: WinRate) -> str:
    """What a win rate says about the two models, for readers who know no statistics."""
    if tally.rate is None or tally.interval is None:
        return "Nobody has preferred either side yet, so there is no win rate."
    low, high = tally.interval
    if low > _EVEN:
        return (
            "Training helped: even the low end of the interval is above half, so chance alone does not explain "
            "that the tuned answers were preferred."
        )
    if high < _EVEN:
        return (
            "Training hurt: even the high end of the interval is below half. Look at KL, samples and the pairs "
            "before anyone uses this model."
        )
    needed = verdicts_needed(tally)
    more = (
        f" At this rate about {needed - tally.decided} more decided pairs would tell."
        if needed is not None
        else " The two seem about as good as each other."
    )
    return f"A coin could have given this, as 50 % lies inside the interval.{more}"


def verdicts_needed(tally: WinRate) -> int | None:
    """How many decided verdicts the Wilson interval needs to exclude 50 %, if the win rate stays as it is.

    Returns:
        None at a win rate of exactly 50 %, or when more than a thousand would be needed.
    """
    if tally.rate is None or tally.rate == _EVEN:
        return None
    for n in range(tally.decided + 1, _MOST_VERDICTS + 1):
        low, high = wilson(round(tally.rate * n), n)
        if low > _EVEN or high < _EVEN:
            return n
    return None


def _tone(tally: WinRate) -> str:
    if tally.interval is None:
        return "muted"
    low, high = tally.interval
    return "good" if low > _EVEN else "bad" if high < _EVEN else "text"


def _caution(session: Session) -> list[Paragraph]:
    return [(f"! {printable(session.caution, single_line=True)}", "warn")] if session.caution else []
