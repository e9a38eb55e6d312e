"""Judge: blind comparison of a run's answers with those of the model it was trained from, up to a win rate."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import ContentSwitcher, OptionList
from textual.widgets.option_list import Option

from dpo_tui.paths import expanded
from dpo_tui.errors import RunError, UsageError
from dpo_tui.judging.judging_session import Session, Verdict
from dpo_tui.judging.preference_pairs import AnswerPair, write_pairs
from dpo_tui.runs.folder import RunFolder
from dpo_tui.views.judging_text import PROMPTS, JudgeableRun, before_answers, judgeable_runs, reporting_save_errors, result, while_answering
from dpo_tui.views.monitor_text import prompt_text
from dpo_tui.views.styled_text import Paragraph
from dpo_tui.views.run_list import RunSummary
from dpo_tui.views.styled_text import StyledRow
from dpo_tui.widgets.answer_pair_view import AnswerPairView, BlindAnswers
from dpo_tui.widgets.compact_inputs import ChoiceList
from dpo_tui.widgets.dialogs import InputDialog
from dpo_tui.widgets.full_screen import FullScreen
from dpo_tui.widgets.key_hints import KeyHints
from dpo_tui.widgets.text_pane import TextPane
from dpo_tui.widgets.title_row import TitleRow

_FOCUS = {"choose": "#runs-to-judge", "ballot": "#ballot", "page": "#page"}
"""The widget that gets the focus in each view."""
INTRODUCTION = (
    "Answers of a run and of the model that it came from, side by side, without knowing whose they are: you say which "
    "is better, and in the end there is a win rate."
)
NO_RUNS = "No run has a result yet: 2 starts one."


class JudgeScreen(FullScreen):
    """Judging of one run at a time.

    The models answer in a child process, which ends with the screen. Posts `FullScreen.Leave`, which the app handles.

    Args:
        runs: gives the runs that the app knows now.
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

    def __init__(self, runs: Callable[[], Sequence[RunSummary]]) -> None:
        super().__init__(id="judge-screen")
        self._runs = runs
        self._choices: list[JudgeableRun] = []
        self._title = ""
        self._session: Session | None = None
        self._ballot: AnswerPair | None = None
        self._answering: Session | None = None
        """The session whose prompts the models are answering now."""
        self._answers = (0, 0)
        """Answers that the models have given, and how many they will give."""
        self._busy = False
        """Whether a change of the session is being saved."""
        self._advance_again = False
        """Whether something happened meanwhile, such as a new answer."""

    def compose(self) -> ComposeResult:
        """Title, the open view and keys, from top to bottom."""
        yield TitleRow("Judge", id="where")
        with ContentSwitcher(initial="choose", id="judge-views"):
            with Vertical(id="choose"):
                yield TextPane([(INTRODUCTION, "muted")], id="what")
                yield ChoiceList(id="runs-to-judge")
            yield AnswerPairView(id="ballot")
            yield TextPane(id="page")
        yield KeyHints()

    def on_mount(self) -> None:
        """Open the choice of a run."""
        self.query_one("#runs-to-judge").focus()

    def on_screen_resume(self) -> None:
        """List the runs again while one is being chosen."""
        if self._view == "choose":
            self._list_runs()

    def on_unmount(self) -> None:
        """End the process in which the models answer."""
        if self._answering is not None:
            self._answering.stop()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enable each key where it can do something."""
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
    def ballot(self) -> AnswerPair | None:
        """The pair to be judged; None while a verdict is being saved, and where there is nothing to judge."""
        return self._ballot

    @property
    def is_busy(self) -> bool:
        """Whether a change of the session, such as a verdict, is being saved."""
        return self._busy

    @property
    def is_answering(self) -> bool:
        """Whether the models are answering prompts now."""
        return self._answering is not None

    @property
    def _view(self) -> str:
        return str(self.query_one("#judge-views", ContentSwitcher).current)

    @work(thread=True, exclusive=True, group="list", exit_on_error=False)
    def _list_runs(self) -> None:
        self.app.call_from_thread(self._runs_listed, judgeable_runs(self._runs()))

    def _runs_listed(self, choices: list[JudgeableRun]) -> None:
        self._choices = choices
        self.draw_when_front(self._show_choices)

    def _show_choices(self) -> None:
        choices = self._choices
        options = self.query_one(ChoiceList)
        highlighted = options.highlighted
        options.clear_options()
        options.add_options([Option(Content(run.description)) for run in choices] or [Option(NO_RUNS, disabled=True)])
        options.highlighted = min(highlighted or 0, len(choices) - 1) if choices else None
        self._show_title()

    @on(OptionList.OptionSelected)
    def _run_chosen(self, message: OptionList.OptionSelected) -> None:
        message.stop()
        chosen = self._choices[message.option_index]
        self.open_run(chosen.folder, chosen.name)

    def open_run(self, folder: RunFolder, name: str) -> None:
        """Judge a run, from where it was left if it was judged before.

        Args:
            folder: the run; it must have a result.
            name: its name, for the title.
        """
        if self._session is not None and self._session.folder == folder:
            self._advance()
            return
        self._stop_answering()
        self._title, self._session, self._ballot = name, None, None
        self._show_page([("Reading the prompts …", "muted")])
        self._open_session(folder, PROMPTS)

    @work(thread=True, exclusive=True, group="open", exit_on_error=False)
    def _open_session(self, folder: RunFolder, count: int) -> None:
        try:
            with reporting_save_errors(folder):
                session = Session.open(folder, count=count)
        except Exception:
            self.app.call_from_thread(self._open_view, "choose")
            raise
        self.app.call_from_thread(self._session_opened, session)

    def _session_opened(self, session: Session) -> None:
        self._session = session
        self._advance()

    def _advance(self, change: Callable[[Session], object] = lambda _: None) -> None:
        """Change the session, and show the next pair to judge, or why there is none.

        Until the change is saved there is no ballot, so that a key pressed meanwhile cannot judge a pair that is not
        shown yet; a second change is dropped.

        Args:
            change: the change, such as a verdict; called in a thread.
        """
        if self._busy:
            self._advance_again = True
        elif self._session is not None:
            before, self._ballot = self._ballot, None
            self._busy, self._advance_again = True, False
            self._change_session(self._session, change, before)

    @work(thread=True, group="change", exit_on_error=False)
    def _change_session(self, session: Session, change: Callable[[Session], object], before: AnswerPair | None) -> None:
        try:
            with reporting_save_errors(session.folder):
                change(session)
                ballot = session.next()
        except RunError:
            self._ballot = before  # nothing was saved: the pair is still to be judged
            raise
        finally:
            self._busy = False
        self.app.call_from_thread(self._session_changed, session, ballot)

    def _session_changed(self, session: Session, ballot: AnswerPair | None) -> None:
        if session is not self._session:
            return
        self._ballot = ballot
        if ballot is None and self._advance_again:  # an answer came after the session was asked for a pair
            self._advance()
        else:
            self.draw_when_front(self._show_session)

    def _show_session(self) -> None:
        """Show the pair to judge or, where there is none, what the session waits for or its result."""
        session, ballot = self._session, self._ballot
        if session is None:
            return
        if ballot is not None:
            shown = BlindAnswers(prompt_text(ballot.prompt), ballot.left, ballot.right)
            self.query_one(AnswerPairView).show(shown)
            self._open_view("ballot")
        elif self._answering is session:
            self._show_page(while_answering(session, *self._answers))
        elif session.unanswered():
            self._show_page(before_answers(session))
        else:
            self._show_page(result(session))

    def action_vote(self, verdict: Verdict) -> None:
        """Save a verdict on the pair shown."""
        ballot = self._ballot
        if ballot is not None:
            self._advance(lambda session: session.vote(ballot, verdict))

    def action_undo(self) -> None:
        """Withdraw the last verdict and show its pair again."""

        def undo(session: Session) -> None:
            if not session.undo():
                self.app.call_from_thread(self.notify, "There is no verdict of yours to take back.", markup=False)

        self._advance(undo)

    def action_answer(self) -> None:
        """Have the models answer the prompts that have no answers yet."""
        session = self._session
        if session is not None and self._answering is not session:
            self._stop_answering()
            self._answering, self._answers = session, (0, 0)
            self._generate_answers(session)
            self._advance()

    @work(thread=True, group="answers", exit_on_error=False)
    def _generate_answers(self, session: Session) -> None:
        try:
            with reporting_save_errors(session.folder):
                for done, total in session.generate():
                    self.app.call_from_thread(self._answer_generated, session, done, total)
        finally:
            if self._answering is session:
                self._answering = None
            if self.is_attached:
                self.app.call_from_thread(self._answers_ended, session)

    def _answer_generated(self, session: Session, done: int, total: int) -> None:
        if session is self._session:
            self._answers = (done, total)
            self.draw_when_front(self._show_title)
            self._show_first_pair()

    def _answers_ended(self, session: Session) -> None:
        if session is self._session:
            self.draw_when_front(self._show_title)
            self._show_first_pair()
            self.refresh_bindings()

    def _show_first_pair(self) -> None:
        """Show the first pair that has answers; a win rate that the user opened over a pair stays."""
        if self._ballot is None and self._view == "page":
            self._advance()

    def _stop_answering(self) -> None:
        if self._answering is not None:
            self._answering.stop()
            self._answering = None

    def action_result(self) -> None:
        """Show the win rate so far."""
        if self._session is not None and not self._busy:
            self._show_page(result(self._session))

    def action_more(self) -> None:
        """Add prompts to judge, if the run's data has more."""
        session = self._session
        if session is not None and self._answering is not session:
            self._add_prompts(session)

    @work(thread=True, exclusive=True, group="open", exit_on_error=False)
    def _add_prompts(self, session: Session) -> None:
        with reporting_save_errors(session.folder):
            longer = Session.open(session.folder, count=session.total + PROMPTS)
        if longer.total == session.total:
            message = f"The run's data has no prompts beyond these {session.total}."
            self.app.call_from_thread(self.notify, message, markup=False)
        else:
            self.app.call_from_thread(self._session_opened, longer)

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def action_export(self) -> None:
        """Ask for a file, and write the pairs with a preferred answer to it."""
        session = self._session
        if session is None:
            return
        name = re.sub(r"[^\w.-]+", "-", self._title).strip("-.") or session.folder.id
        title = "Write the decided verdicts as pairs to"
        out = await self.app.push_screen_wait(InputDialog(title, str(Path.cwd() / f"{name}.judged.jsonl")))
        if out:
            self._write_pairs(session, expanded(out))

    @work(thread=True, exclusive=True, group="write", exit_on_error=False)
    def _write_pairs(self, session: Session, out: Path) -> None:
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
        self._open_view("page")

    def _open_view(self, view: str) -> None:
        self.query_one("#judge-views", ContentSwitcher).current = view
        if view == "choose":
            self._list_runs()
        self.query_one(_FOCUS[view]).focus()
        self._show_title()
        self.refresh_bindings()

    def _show_title(self) -> None:
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
        """Go back to the pair, to the choice of a run, or leave."""
        if self._view == "page" and self._ballot is not None:
            self._open_view("ballot")
        elif self._view == "choose":
            self.post_message(self.Leave())
        else:
            self._open_view("choose")
