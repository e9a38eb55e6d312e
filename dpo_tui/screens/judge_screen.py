"""Judge: two answers to a prompt, nobody says whose; which is better? In the end a win rate."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import ContentSwitcher, OptionList
from textual.widgets.option_list import Option

from dpo_tui.errors import RunError, UsageError
from dpo_tui.judging.pair_collection import write_pairs
from dpo_tui.judging.judging_session import Ballot, Session, Verdict
from dpo_tui.views.judging_text import (
    PROMPTS,
    JudgeableRun,
    before_answers,
    judgeable_runs,
    reporting_save_errors,
    result,
    while_answering,
)
from dpo_tui.views.run_list import RunSummary
from dpo_tui.views.monitor_text import prompt_text
from dpo_tui.runs.folder import RunFolder
from dpo_tui.widgets.full_screen import FullScreen
from dpo_tui.widgets.answer_pair_view import BlindAnswers, AnswerPairView
from dpo_tui.widgets.compact_inputs import ChoiceList
from dpo_tui.widgets.dialogs import InputDialog
from dpo_tui.widgets.key_hints import KeyHints
from dpo_tui.views.styled_text import Paragraph, StyledRow
from dpo_tui.widgets.text_pane import TextPane
from dpo_tui.widgets.title_row import TitleRow

_FOCUS = {"choose": "#runs-to-judge", "ballot": "#ballot", "page": "#page"}
WHAT = (
    "Answers of a run and of the model that it came from, side by side, without knowing whose they are: you say which "
    "is better, and in the end there is a win rate."
)
NOTHING = "No run has a result yet: 2 starts one."


class JudgeScreen(FullScreen):
    """The judging of one run at a time; what answers is a process of its own and ends with the screen.

    Args:
        glances: gives the runs as the app knows them now.
    """

    CSS_PATH = Path(__file__).with_suffix(".tcss")
    HELP = (
        "Read both answers and press for the better one: l or ← for A, r or → for B, t when they are as good as each "
        "other, b when both are bad. u takes the last verdict back. Whose answer stands where is shuffled, and hidden "
        "until v or the end shows the win rate.\n\n"
        "Every verdict is kept at once: leave whenever you like and go on later, here or with `dpo-tui judge`. "
        "w writes the verdicts as preference pairs, m adds prompts."
    )
    GUIDE_PAGE = "practice"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l,left", "vote('left')", "A better", id="judge.left"),
        Binding("r,right", "vote('right')", "B better", id="judge.right"),
        Binding("t", "vote('tie')", "tie", id="judge.tie"),
        Binding("b", "vote('both-bad')", "both bad", id="judge.both-bad"),
        Binding("u", "undo", "undo", id="judge.undo"),
        Binding("enter", "answer", "have them answer", id="judge.answer"),
        Binding("v", "result", "win rate", id="judge.result"),
        Binding("w", "export", "save as pairs", id="judge.export"),
        Binding("m", "more", "more prompts", id="judge.more"),
        Binding("escape", "back", "back", id="judge.back"),
    ]

    def __init__(self, glances: Callable[[], Sequence[RunSummary]]) -> None:
        super().__init__(id="judge-screen")
        self._glances = glances
        self._choices: list[JudgeableRun] = []
        self._title = ""
        self._session: Session | None = None
        self._ballot: Ballot | None = None
        self._answering: Session | None = None
        self._answers = (0, 0)
        self._busy = False
        self._again = False

    def compose(self) -> ComposeResult:
        """Where we are, the view, keys."""
        yield TitleRow("Judge", id="where")
        with ContentSwitcher(initial="choose", id="judge-views"):
            with Vertical(id="choose"):
                yield TextPane([(WHAT, "muted")], id="what")
                yield ChoiceList(id="runs-to-judge")
            yield AnswerPairView(id="ballot")
            yield TextPane(id="page")
        yield KeyHints()

    def on_mount(self) -> None:
        """Begin with the choice of a run."""
        self.query_one("#runs-to-judge").focus()

    def on_screen_resume(self) -> None:
        """List the runs that there are now."""
        if self._view == "choose":
            self._list()

    def on_unmount(self) -> None:
        """End the process that answers."""
        if self._answering is not None:
            self._answering.stop()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer what makes sense now."""
        session = self._session if self.is_mounted else None
        if action == "vote":
            return session is not None and self._view == "ballot"
        if action == "answer":
            if session is None or self._view == "choose" or self._answering is session:
                return False
            return bool(session.unanswered())
        if action in ("undo", "result", "export"):
            return session is not None and self._view != "choose" and session.tally().judged > 0
        if action == "more":
            return session is not None and self._view == "page"
        return True

    @property
    def _view(self) -> str:
        return str(self.query_one("#judge-views", ContentSwitcher).current)

    @work(thread=True, exclusive=True, group="list", exit_on_error=False)
    def _list(self) -> None:
        self.app.call_from_thread(self._listed, judgeable_runs(self._glances()))

    def _listed(self, found: list[JudgeableRun]) -> None:
        self._choices = found
        self.draw_when_front(self._show_choices)

    def _show_choices(self) -> None:
        found = self._choices
        options = self.query_one(ChoiceList)
        kept = options.highlighted
        options.clear_options()
        options.add_options([Option(Content(one.description)) for one in found] or [Option(NOTHING, disabled=True)])
        options.highlighted = min(kept or 0, len(found) - 1) if found else None
        self._show_where()

    @on(OptionList.OptionSelected)
    def _choose(self, message: OptionList.OptionSelected) -> None:
        message.stop()
        chosen = self._choices[message.option_index]
        self.open_run(chosen.folder, chosen.name)

    def open_run(self, folder: RunFolder, name: str) -> None:
        """Judge a run: go on with it, or begin."""
        if self._session is not None and self._session.folder == folder:
            self._go_on()
            return
        self._stop_answering()
        self._title, self._session, self._ballot = name, None, None
        self._show_page([("Reading the prompts …", "muted")])
        self._begin(folder, PROMPTS)

    @work(thread=True, exclusive=True, group="begin", exit_on_error=False)
    def _begin(self, folder: RunFolder, count: int) -> None:
        try:
            with reporting_save_errors(folder):
                session = Session.open(folder, count=count)
        except Exception:
            self.app.call_from_thread(self._open, "choose")
            raise
        self.app.call_from_thread(self._begun, session)

    def _begun(self, session: Session) -> None:
        self._session = session
        self._go_on()

    def _go_on(self, change: Callable[[Session], object] = lambda _: None) -> None:
        """Change something in the session, such as a verdict, and show the next pair, or why there is none.

        Keys pressed meanwhile do nothing: they would judge a pair that nobody has seen.
        """
        if self._busy:
            self._again = True
        elif self._session is not None:
            before, self._ballot = self._ballot, None
            self._busy, self._again = True, False
            self._step(self._session, change, before)

    @work(thread=True, group="step", exit_on_error=False)
    def _step(self, session: Session, change: Callable[[Session], object], before: Ballot | None) -> None:
        try:
            with reporting_save_errors(session.folder):
                change(session)
                ballot = session.next()
        except RunError:
            self._ballot = before  # to be judged again
            raise
        finally:
            self._busy = False
        self.app.call_from_thread(self._stepped, session, ballot)

    def _stepped(self, session: Session, ballot: Ballot | None) -> None:
        if session is not self._session:
            return
        self._ballot = ballot
        if ballot is None and self._again:  # an answer came after the look
            self._go_on()
        else:
            self.draw_when_front(self._show_step)

    def _show_step(self) -> None:
        session, ballot = self._session, self._ballot
        if session is None:
            return
        if ballot is not None:
            shown = BlindAnswers(prompt_text(ballot.prompt), ballot.left, ballot.right)
            self.query_one(AnswerPairView).show(shown)
            self._open("ballot")
        elif self._answering is session:
            self._show_page(while_answering(session, *self._answers))
        elif session.unanswered():
            self._show_page(before_answers(session))
        else:
            self._show_page(result(session))

    def action_vote(self, verdict: Verdict) -> None:
        """Keep a verdict on the pair shown."""
        ballot = self._ballot
        if ballot is not None:
            self._go_on(lambda session: session.vote(ballot, verdict))

    def action_undo(self) -> None:
        """Take the last verdict back and show that pair again."""

        def undo(session: Session) -> None:
            if not session.undo():
                self.app.call_from_thread(self.notify, "There is no verdict of yours to take back.", markup=False)

        self._go_on(undo)

    def action_answer(self) -> None:
        """Have the models answer what is not answered yet."""
        session = self._session
        if session is not None and self._answering is not session:
            self._stop_answering()
            self._answering, self._answers = session, (0, 0)
            self._answer(session)
            self._go_on()

    @work(thread=True, group="answers", exit_on_error=False)
    def _answer(self, session: Session) -> None:
        try:
            with reporting_save_errors(session.folder):
                for done, total in session.generate():
                    self.app.call_from_thread(self._answered, session, done, total)
        finally:
            if self._answering is session:
                self._answering = None
            if self.is_attached:
                self.app.call_from_thread(self._answers_ended, session)

    def _answered(self, session: Session, done: int, total: int) -> None:
        if session is self._session:
            self._answers = (done, total)
            self.draw_when_front(self._show_where)
            self._look_for_pair()

    def _answers_ended(self, session: Session) -> None:
        if session is self._session:
            self.draw_when_front(self._show_where)
            self._look_for_pair()
            self.refresh_bindings()

    def _look_for_pair(self) -> None:
        """Show the first pair as soon as it is there, but never take a page away that the person opened."""
        if self._ballot is None and self._view == "page":
            self._go_on()

    def _stop_answering(self) -> None:
        if self._answering is not None:
            self._answering.stop()
            self._answering = None

    def action_result(self) -> None:
        """Show the win rate so far."""
        if self._session is not None and not self._busy:
            self._show_page(result(self._session))

    def action_more(self) -> None:
        """Judge more prompts, if the run's data has some."""
        session = self._session
        if session is not None and self._answering is not session:
            self._more(session)

    @work(thread=True, exclusive=True, group="begin", exit_on_error=False)
    def _more(self, session: Session) -> None:
        with reporting_save_errors(session.folder):
            longer = Session.open(session.folder, count=session.total + PROMPTS)
        if longer.total == session.total:
            words = f"The run's data has no prompts beyond these {session.total}."
            self.app.call_from_thread(self.notify, words, markup=False)
        else:
            self.app.call_from_thread(self._begun, longer)

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def action_export(self) -> None:
        """Write the decided verdicts as preference pairs."""
        session = self._session
        if session is None:
            return
        name = re.sub(r"[^\w.-]+", "-", self._title).strip("-.") or session.folder.id
        title = "Write the decided verdicts as pairs to"
        out = await self.app.push_screen_wait(InputDialog(title, str(Path.cwd() / f"{name}.judged.jsonl")))
        if out:
            self._write(session, Path(out).expanduser())

    @work(thread=True, exclusive=True, group="write", exit_on_error=False)
    def _write(self, session: Session, out: Path) -> None:
        if out.exists():
            raise UsageError(f"{out}: exists already", hint="Name another file, or remove it first.")
        pairs = session.pairs()
        try:
            write_pairs(out, pairs)
        except OSError as error:
            raise UsageError(f"{out}: cannot be written: {error.strerror or error}") from error
        self.app.call_from_thread(self.notify, f"{len(pairs):,} pairs written to {out}.", markup=False)

    def _show_page(self, text: list[Paragraph]) -> None:
        self.query_one("#page", TextPane).show(text, top=self._view != "page")
        self._open("page")

    def _open(self, view: str) -> None:
        self.query_one("#judge-views", ContentSwitcher).current = view
        if view == "choose":
            self._list()
        self.query_one(_FOCUS[view]).focus()
        self._show_where()
        self.refresh_bindings()

    def _show_where(self) -> None:
        parts: list[StyledRow] = [[("Judge", "title")]]
        right: StyledRow = []
        session = self._session
        if session is not None and self._view != "choose":
            parts.append([(self._title, "value")])
            parts.append([(f"{session.tally().judged} of {session.total}", "value"), (" judged", "muted")])
            if self._answering is session:
                done, total = self._answers
                right = [(f"answers {done} of {total}" if done else "loading the models", "busy")]
            elif missing := len(session.unanswered()):
                right = [(f"{missing} not answered yet", "muted")]
        elif self._choices:
            parts.append([("which run?", "muted")])
        self.query_one("#where", TitleRow).show(parts, right)

    def action_back(self) -> None:
        """From the win rate to the pair, from there to the runs that can be judged, and then out."""
        if self._view == "page" and self._ballot is not None:
            self._open("ballot")
        elif self._view == "choose":
            self.post_message(self.Leave())
        else:
            self._open("choose")
