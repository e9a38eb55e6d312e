"""What the judge screen shows: which runs can be judged, what is to be done, and what the verdicts come to."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from dpo_tui.errors import RunError
from dpo_tui.judging.judging_session import Session
from dpo_tui.judging.win_rate import WinRate, wilson
from dpo_tui.runs.folder import RunFolder
from dpo_tui.text.printable import printable
from dpo_tui.views.monitor_text import Piece, prompt_text
from dpo_tui.views.run_list import RunSummary

PROMPTS = 20
"""Prompts to judge at first, and so many more on request."""
_EVEN = 0.5
_MOST = 1000
"""Verdicts beyond which it is no use to say how many more are needed."""
_WINNERS = {"tuned": "tuned", "base": "base", "tie": "tie", "both-bad": "both bad", "same": "the same"}
_NAME_WIDTH = 26


@dataclass(frozen=True, slots=True)
class Judgeable:
    """A run that has made something.

    Attributes:
        folder: of the run.
        name: what the person calls it.
        words: one line about it.
    """

    folder: RunFolder
    name: str
    words: str


def judgeable(glances: Sequence[RunSummary]) -> list[Judgeable]:
    """The runs that can be judged, newest first, and how far each is judged. Reads the disk."""
    found = []
    for glance in glances:
        if glance.folder.has_result:
            session = Session.existing(glance.folder)
            judged = f"{session.tally().judged} of {session.total} judged" if session is not None else "not judged yet"
            name = printable(glance.name, single_line=True)[: _NAME_WIDTH - 2]
            words = f"{name:<{_NAME_WIDTH}}{judged:<20}{glance.model}"
            found.append(Judgeable(glance.folder, glance.name, words.rstrip()))
    return found


@contextmanager
def saved(folder: RunFolder) -> Iterator[None]:
    """What is done here writes the run's judging.

    Raises:
        RunError: the disk refused; what was kept before is there.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            f"the judging of run {folder.id} cannot be saved: {error.strerror or error}",
            hint="Is there room on the disk, and is the run still there? What was saved before stays.",
        ) from error


def before_answers(session: Session) -> list[Piece]:
    """What to do while there is no pair to judge because answers are not there yet."""
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


def while_answering(session: Session, done: int, total: int) -> list[Piece]:
    """What goes on while the first pair is not there yet."""
    told = f"{done} of {total} answers are there." if done else "Loading the libraries and the models takes a while."
    return [
        ("Both models answer the prompts.", "heading"),
        ("", "text"),
        (told, "text"),
        ("The first pair comes by itself. You may leave: it goes on as long as the app is open.", "muted"),
        *_caution(session),
    ]


def result(session: Session) -> list[Piece]:
    """The win rate, how sure it is, what it means, and who won where."""
    tally = session.tally()
    text: list[Piece] = [(tally.summary(), "heading"), ("", "text"), (meaning(tally), _tone(tally))]
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
    """What a tally says about the two models, in words for someone who knows no statistics."""
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
    """Decided verdicts at which the interval would leave 50 % outside if the rate stayed; None beyond a thousand."""
    if tally.rate is None or tally.rate == _EVEN:
        return None
    for n in range(tally.decided + 1, _MOST + 1):
        low, high = wilson(round(tally.rate * n), n)
        if low > _EVEN or high < _EVEN:
            return n
    return None


def _tone(tally: WinRate) -> str:
    if tally.interval is None:
        return "muted"
    low, high = tally.interval
    return "good" if low > _EVEN else "bad" if high < _EVEN else "text"


def _caution(session: Session) -> list[Piece]:
    return [(f"! {printable(session.caution, single_line=True)}", "warn")] if session.caution else []
