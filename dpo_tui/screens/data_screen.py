"""Data: what a dataset is, what is wrong with it, and its pairs to read, flip, drop, edit and save."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import ContentSwitcher

from dpo_tui.data.scan.scan_process import ScanProcess, ScanRequest
from dpo_tui.data.source.source import Source
from dpo_tui.errors import DpoTuiError
from dpo_tui.views.dataset_text import droppable, report_page, where
from dpo_tui.views.dataset_browser import DatasetBrowser, Decisions
from dpo_tui.views.run_plan import RunPlan
from dpo_tui.views.token_lengths import lengths_text
from dpo_tui.screens.pair_keys import PAIR_ACTIONS, PairArea
from dpo_tui.screens.steps.data_step import DataStep
from dpo_tui.widgets.dialogs import AskDialog, TypeDialog
from dpo_tui.widgets.key_hints import KeyHints
from dpo_tui.widgets.pair_view import PairView
from dpo_tui.widgets.repair_dialog import RepairDialog
from dpo_tui.widgets.tab_strip import TabStrip
from dpo_tui.widgets.text_pane import TextPane
from dpo_tui.widgets.title_row import TitleRow

VIEWS = ("Choose", "Report", "Pairs", "Lengths")
_PANES = {"Choose": "choose", "Report": "report", "Pairs": "pairs", "Lengths": "lengths"}
_USUAL_LENGTH = 1024
"""TRL's own max_length, and that of the mid-range profile."""
_NOTHING_YET = [("Choose some data first.", "muted")]
ModelInHand = tuple[str, int]
"""A model, and the max_seq_length that it is to be trained with."""


class DataScreen(PairArea):
    """The inspector. The scan is a process of its own and ends with the screen."""

    CSS_PATH = Path(__file__).with_suffix(".tcss")
    HELP = (
        "Report: what the data is and what training does with it. Pairs: n and p go to the next and the one before, "
        "c leaves only the pairs that a check names, / finds words, g goes to a number. f flips, d drops, e edits; "
        "w writes a repaired copy, also without what some checks name; the file itself is never changed. t goes from "
        "view to view. Lengths counts tokens as training will, with the model chosen in New or the one that m names."
    )
    GUIDE_PAGE = "practice"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("w", "save", "save", id="data.save"),
        Binding("m", "model", "model", id="data.model"),
        Binding("t", "view(1)", "views", id="data.next-view"),
        Binding("T", "view(-1)", "view before", id="data.previous-view", show=False),
        Binding("escape", "back", "back", id="data.back"),
    ]

    def __init__(self, in_hand: Callable[[], ModelInHand | None] = lambda: None) -> None:
        super().__init__(id="data-screen")
        self._in_hand = in_hand
        self._model: ModelInHand | None = None
        self._no_tokens = self._phase = ""
        self._location = ""
        self._scan: ScanProcess | None = None

    def compose(self) -> ComposeResult:
        """Where we are, the view, keys."""
        yield TitleRow("Data", id="where")
        with ContentSwitcher(initial="choose", id="data-views"):
            yield DataStep(id="choose")
            yield TextPane(_NOTHING_YET, id="report")
            yield PairView(id="pairs")
            yield TextPane(_NOTHING_YET, id="lengths")
        yield TabStrip(VIEWS, id="tabs")
        yield KeyHints()

    def on_mount(self) -> None:
        """Begin with the choice of a file."""
        self.query_one(DataStep).show(RunPlan())
        self.query_one("#files").focus()

    def on_unmount(self) -> None:
        """End a scan that still runs."""
        if self._scan is not None:
            self._scan.close()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Pair keys work where a pair is shown."""
        if action in PAIR_ACTIONS:
            return self.is_mounted and self._dataset is not None and self._view == "Pairs"
        if action == "save":
            return self.is_mounted and self._dataset is not None and self._view != "Choose"
        if action == "model":
            return self.is_mounted and bool(self._location) and self._view in ("Report", "Lengths")
        return True

    @property
    def _view(self) -> str:
        return self.query_one("#tabs", TabStrip).open

    @on(DataStep.Chosen)
    def _choose(self, message: DataStep.Chosen) -> None:
        message.stop()
        self.open_data(message.location)

    def open_data(self, location: str) -> None:
        """Scan some data and show its report."""
        self._location = location
        self.forget_pairs()
        self._model = self._model or self._in_hand()
        self.query_one("#report", TextPane).show([("Reading …", "muted")], top=True)
        self._open("Report")
        self._scan_again()

    def _scan_again(self) -> None:
        """Scan the data that is open; what is decided about its rows stays."""
        if self._scan is not None:
            self._scan.close()
        self._no_tokens = ""
        model, longest = self._model or (None, None)
        self._scan = ScanProcess(ScanRequest(Source(self._location), model=model, max_length=longest))
        self._follow_scan(self._scan, self._location)

    @work(thread=True, exclusive=True, group="scan", exit_on_error=False)
    def _follow_scan(self, scan: ScanProcess, location: str) -> None:
        whole = False
        try:
            for event in scan.events():
                if scan is not self._scan:
                    return
                self.app.call_from_thread(self._scanned, event)
                if not whole and event["event"] != "progress" and event["report"]["complete"]:
                    whole = True  # the rows are all read; tokens may still be counted
                    self._open_dataset(location)
        except DpoTuiError as error:
            if scan is self._scan:
                self.app.call_from_thread(self._refused, error, whole)
        finally:
            scan.close()

    def _open_dataset(self, location: str) -> None:
        if self._dataset is None:
            self.app.call_from_thread(self._opened, location, DatasetBrowser(location))

    def _refused(self, error: DpoTuiError, whole: bool) -> None:
        """Say why there is no report, or, when only the tokens are missing, why there are none."""
        if whole:
            self._no_tokens = " ".join(part for part in (error.message, error.hint) if part)
            self._show_lengths()
            self.show_where()
        else:
            text = [(f"✗ {error.message}", "bad"), (error.hint or "", "accent")]
            self.query_one("#report", TextPane).show(text)

    def _scanned(self, event: dict[str, Any]) -> None:
        if event["event"] == "progress":
            part = f"{event['done'] / event['total']:.0%}" if event.get("total") else ""
            self._phase = f"{event['phase']} {part}"
            self.when_seen(self._show_phase)
        else:
            self._report = event["report"]
            self.when_seen(self._show_report)

    def _show_phase(self) -> None:
        self.query_one("#where", TitleRow).show([[("Data", "title")], [(self._phase, "muted")]])

    def _show_report(self) -> None:
        if self._report is not None:
            self.query_one("#report", TextPane).show(report_page(self._report))
        self._show_lengths()
        self.show_where()

    def _show_lengths(self) -> None:
        model = self._model[0] if self._model is not None else ""
        self.query_one("#lengths", TextPane).show(lengths_text(self._report, model, self._no_tokens))

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def action_model(self) -> None:
        """Count tokens with a model's tokenizer, as training with some max_seq_length will."""
        known, longest = self._model or self._in_hand() or ("", _USUAL_LENGTH)
        asked = TypeDialog("Count tokens with the model", known, "hub id (org/name) or folder")
        name = await self.app.push_screen_wait(asked)
        typed = await self.app.push_screen_wait(TypeDialog("max_seq_length", str(longest))) if name else None
        if not name or not typed:
            return
        if not typed.isdigit() or not int(typed):
            self.notify("max_seq_length is a number of tokens.", severity="warning", markup=False)
            return
        self._model = (name, int(typed))
        self._open("Lengths")
        self._scan_again()

    def _opened(self, location: str, dataset: DatasetBrowser) -> None:
        if location == self._location:
            self._dataset = dataset
            self.refresh_bindings()
            self._show_row(1)

    def show_where(self) -> None:
        """Show the data's name, and of pairs which one is shown and what was decided."""
        pairs = self._dataset if self._view == "Pairs" else None
        parts = where(self._location, pairs, self._at, self._check, self._decisions)
        self.query_one("#where", TitleRow).show(parts)

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def action_save(self) -> None:
        """Write a repaired copy, also without the rows that some checks name."""
        dataset, decisions = self._dataset, self._decisions
        if dataset is None:
            return
        stem = Path(self._location).expanduser().name.partition(".")[0] or "pairs"
        out = Path.cwd() / f"{stem}.repaired.jsonl"

        def remaining(checks: tuple[str, ...]) -> str:
            return dataset.remaining(decisions, checks).words()

        chosen = await self.app.push_screen_wait(RepairDialog(droppable(self._report), remaining, out))
        if chosen is None:
            return
        checks, out = chosen
        question = AskDialog(f"Write over {out.name}?", "There is a file of this name.", dangerous=True)
        if not out.exists() or await self.app.push_screen_wait(question):
            self._save(dataset, decisions, checks, out)

    @work(thread=True, exclusive=True, group="save", exit_on_error=False)
    def _save(self, dataset: DatasetBrowser, decisions: Decisions, checks: tuple[str, ...], out: Path) -> None:
        done = dataset.save(decisions, checks, out)
        words = (
            f"{done.written:,} pairs written to {out}: {done.changed:,} rows changed, {done.left_out:,} left out; "
            f"{done.sidecar.name} says which."
        )
        self.app.call_from_thread(self.notify, words, markup=False)

    def action_view(self, by: int) -> None:
        """Open the next view."""
        self._open(self.query_one("#tabs", TabStrip).step(by))

    @on(TabStrip.Picked)
    def _pick(self, message: TabStrip.Picked) -> None:
        message.stop()
        self._open(message.name)

    def _open(self, name: str) -> None:
        self.query_one("#tabs", TabStrip).pick(name)
        self.query_one("#data-views", ContentSwitcher).current = _PANES[name]
        self.query_one("#files" if name == "Choose" else f"#{_PANES[name]}").focus()
        self.show_where()
        self.refresh_bindings()

    def action_back(self) -> None:
        """To the choice of a file, and then out."""
        if self._view in ("Pairs", "Lengths"):
            self._open("Report")
        elif self._view == "Report":
            self._open("Choose")
        else:
            self.post_message(self.Leave())
