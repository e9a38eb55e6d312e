"""Verdicts of a person on pairs of answers of an improvement: blind, each kept at once, while its driver works."""

from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import ContentSwitcher

from dpo_tui.errors import RunError
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_status import improvement_status
from dpo_tui.improve.person_verdicts import AskedPair, asked_pairs, calibration_of, record_verdict
from dpo_tui.improve.report.write_report import rewrite_report
from dpo_tui.judging.judges.judge import Side
from dpo_tui.views.monitor_text import prompt_text
from dpo_tui.views.improvement_rows import step_text
from dpo_tui.views.styled_text import Paragraph, StyledRow
from dpo_tui.widgets.answer_pair_view import AnswerPairView, BlindAnswers
from dpo_tui.widgets.full_screen import FullScreen
from dpo_tui.widgets.key_hints import KeyHints
from dpo_tui.widgets.text_pane import TextPane
from dpo_tui.widgets.title_row import TitleRow

POLL_SECONDS = 1.0


class VerdictsScreen(FullScreen):
    """The pairs that an improvement asks a person about, one at a time.

    Posts `FullScreen.Leave`, which the app handles.

    Args:
        folder: the improvement.
    """

    CSS_PATH = Path(__file__).with_suffix(".tcss")
    HELP = (
        "Read both answers and press for the better one: l or ← for A, r or → for B, t when they are as good as each "
        "other. Whose answer stands where is shuffled, and hidden.\n\n"
        "Every verdict is kept at once and cannot be taken back: the improvement may use it a moment later. Leave whenever "
        "you like, and go on here or with `dpo-tui judge`."
    )
    GUIDE_PAGE = "practice"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l,left", "vote('left')", "A better", id="verdicts.left"),
        Binding("r,right", "vote('right')", "B better", id="verdicts.right"),
        Binding("t", "vote('tie')", "tie", id="verdicts.tie"),
        Binding("escape", "back", "back", id="verdicts.back"),
    ]

    def __init__(self, folder: ImprovementFolder) -> None:
        super().__init__()
        self._folder = folder
        self._asked: AskedPair | None = None
        self._waiting = 0
        self._page: list[Paragraph] = [("Reading the answers …", "muted")]
        self._given: list[tuple[AskedPair, Side]] = []
        """Verdicts that are not kept yet."""
        self._busy = False
        """Whether a thread keeps verdicts and reads."""
        self._judged = False
        """Whether the report may lack a verdict that was given here."""

    @property
    def asked(self) -> AskedPair | None:
        """The pair to be judged; None while a verdict is being kept, and where there is nothing to judge."""
        return self._asked

    def compose(self) -> ComposeResult:
        """Title, the pair or why there is none, and keys, from top to bottom."""
        yield TitleRow("Verdicts", id="title")
        with ContentSwitcher(initial="page", id="parts"):
            yield AnswerPairView(id="pair")
            yield TextPane(self._page, id="page")
        yield KeyHints()

    def on_mount(self) -> None:
        """Read what is asked."""
        self.query_one("#page").focus()
        self.set_interval(POLL_SECONDS, self._poll)
        self._poll()

    def on_unmount(self) -> None:
        """Bring the report up to date where the app ends here."""
        self._update_report()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enable the verdicts where there is a pair."""
        return self._asked is not None if action == "vote" else True

    def _poll(self) -> None:
        # With a pair on the screen there is nothing to wait for.
        if self.is_front and self._asked is None:
            self._start()

    def action_vote(self, verdict: Side) -> None:
        """Keep a verdict on the pair shown, and show the next; a key pressed before that judges nothing."""
        asked, self._asked = self._asked, None
        if asked is not None:
            self._given.append((asked, verdict))
            self._start()

    def _start(self) -> None:
        if not self._busy:
            self._busy = True
            given, self._given = self._given, []
            self._keep_and_read(given)

    @work(thread=True, group="verdicts", exit_on_error=False)
    def _keep_and_read(self, given: list[tuple[AskedPair, Side]]) -> None:
        """Keep verdicts, then read what is asked now."""
        failure = None
        for asked, verdict in given:
            try:
                record_verdict(self._folder, asked, verdict)
                self._judged = True
            except OSError as error:
                failure = RunError(f"{self._folder.person_verdicts}: cannot be written: {error.strerror or error}")
        try:
            waiting, page = self._read()
        except RunError as error:  # such as of one that was deleted meanwhile; a dialog would come every second
            waiting, page = [], [(error.message, "bad"), (error.hint or "", "muted")]
        if self.is_attached:
            self.app.call_from_thread(self._read_done, waiting, page)
        if failure is not None:
            raise failure  # its pair is still among those that wait

    def _read(self) -> tuple[list[AskedPair], list[Paragraph]]:
        status = improvement_status(self._folder)
        waiting = asked_pairs(self._folder, status.plan)
        if waiting:
            return waiting, []
        page: list[Paragraph] = [("Nothing waits for your verdict now.", "heading")]
        if status.live:
            page.append((f"It goes on: {step_text(status)}. What it asks next is shown here by itself.", "text"))
        elif not status.over or status.status != "done":
            page.append((f"It is {status.status}; r in its screen has it go on where it was.", "text"))
        found = calibration_of(self._folder, status.plan)
        return waiting, [*page, *([(found.summary(), "text")] if found else [])]

    def _read_done(self, waiting: list[AskedPair], page: list[Paragraph]) -> None:
        self._busy = False
        if self._given:  # given while this was read: it does not know of them
            self._start()
            return
        self._waiting, self._page = len(waiting), page
        self._asked = waiting[0] if waiting else None
        self.draw_when_front(self._show)

    def _show(self) -> None:
        parts, asked = self.query_one(ContentSwitcher), self._asked
        if asked is not None:
            shown = BlindAnswers(prompt_text(asked.pair.prompt), asked.pair.left, asked.pair.right)
            self.query_one(AnswerPairView).show(shown)
        else:
            self.query_one("#page", TextPane).show(self._page)
        view = "pair" if asked is not None else "page"
        if parts.current != view:
            parts.current = view
            self.query_one(f"#{view}").focus()
        title: list[StyledRow] = [[("Verdicts", "title")]]
        if self._waiting:
            title.append([(f"{self._waiting} waiting", "accent")])
        self.query_one("#title", TitleRow).show(title)
        self.refresh_bindings()

    def action_back(self) -> None:
        """Leave."""
        self._update_report()
        self.post_message(self.Leave())

    def _update_report(self) -> None:
        """Write the report again, which has how far the judge agrees with the person."""
        if self._judged:
            self._judged = False
            with suppress(RunError, OSError):  # of one that is gone, or whose answers cannot be read
                rewrite_report(self._folder)
