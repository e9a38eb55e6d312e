"""Data: the report of a dataset's scan, its pairs to read and repair, and their lengths in tokens."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import ContentSwitcher

from dpo_tui.paths import expanded
from dpo_tui.config.schema import Config
from dpo_tui.data.repair.row_forms import RowForm, form_of
from dpo_tui.data.scan.scan_process import ScanProcess, ScanRequest
from dpo_tui.data.source.source import Source
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings
from dpo_tui.errors import DpoTuiError
from dpo_tui.screens.pair_screen import PAIR_ACTIONS, PairScreen
from dpo_tui.screens.steps.data_step import DataStep
from dpo_tui.text.location_list import locations_of
from dpo_tui.views.dataset_browser import DatasetBrowser, Decisions
from dpo_tui.views.dataset_text import FIX_ENCODING, droppable_checks, report_page, title_parts
from dpo_tui.views.run_plan import RunPlan
from dpo_tui.views.token_length_text import lengths_text
from dpo_tui.widgets.dialogs import ConfirmDialog, InputDialog
from dpo_tui.widgets.key_hints import KeyHints
from dpo_tui.widgets.pair_view import PairView
from dpo_tui.widgets.repair_dialog import RepairDialog
from dpo_tui.widgets.tab_strip import TabStrip
from dpo_tui.widgets.text_pane import TextPane
from dpo_tui.widgets.title_row import TitleRow

VIEWS = ("Choose", "Report", "Pairs", "Lengths")
_PANES = {"Choose": "choose", "Report": "report", "Pairs": "pairs", "Lengths": "lengths"}
_DEFAULT_LENGTH = 1024
"""CountSettings: TRL's default of max_length, and that of the mid-range profile."""
_NO_DATA = [("Choose some data first.", "muted")]


@dataclass(frozen=True)
class CountSettings:
    """By what tokens are counted.

    Attributes:
        model: folder or hub id.
        max_length: max_seq_length, in tokens.
        truncation: which end of a pair that is too long is kept.
        template: settings of the model's chat template.
    """

    model: str
    max_length: int
    truncation: str = "keep_start"
    template: TemplateSettings = field(default_factory=TemplateSettings)

    @classmethod
    def of(cls, config: Config) -> "CountSettings":
        """Those of a run with these settings."""
        return cls(config.model_name, config.max_seq_length, config.truncation_mode, TemplateSettings.of(config))

    def of_model(self, name: str, max_length: int) -> "CountSettings":
        """The same for a model and length that the user types; another model has its own chat template."""
        changed = replace(self, model=name, max_length=max_length)
        return changed if name == self.model else replace(changed, template=TemplateSettings())


class DataScreen(PairScreen):
    """Choice of the data, report, pairs and lengths.

    The scan runs in a child process, which ends with the screen. Posts `FullScreen.Leave`, which the app handles, and
    handles `DataStep.Chosen`.

    Args:
        plan_of_new: gives the plan of New, by whose columns and encoding its data are read, and by whose model, length
            and chat template tokens are counted unless the user names another model; None before New was opened.
    """

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

    def __init__(self, plan_of_new: Callable[[], RunPlan | None] = lambda: None) -> None:
        super().__init__(id="data-screen")
        self._plan_of_new = plan_of_new
        self._named: CountSettings | None = None
        """What the user named by m, in place of the settings of New."""
        self._tokens: CountSettings | None = None
        self._tokens_error = ""
        """Why tokens could not be counted; empty when nothing is wrong."""
        self._progress = ""
        self._location = ""
        self._source: Source | None = None
        self._scan: ScanProcess | None = None

    def compose(self) -> ComposeResult:
        """Title, the open view, tabs and keys, from top to bottom."""
        yield TitleRow("Data", id="where")
        with ContentSwitcher(initial="choose", id="data-views"):
            yield DataStep(self._plan_of_new, id="choose")
            yield TextPane(_NO_DATA, id="report")
            yield PairView(id="pairs")
            yield TextPane(_NO_DATA, id="lengths")
        yield TabStrip(VIEWS, id="tabs")
        yield KeyHints()

    def on_mount(self) -> None:
        """Open the choice of the data."""
        self.query_one(DataStep).show(RunPlan())
        self.query_one("#files").focus()

    def on_unmount(self) -> None:
        """End a scan that is still running."""
        if self._scan is not None:
            self._scan.close()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enable the keys of pairs while one is shown, and saving and counting while there is data for it."""
        if action in PAIR_ACTIONS:
            return self.is_mounted and self.dataset is not None and self._view == "Pairs"
        if action == "save":
            return self.is_mounted and self.dataset is not None and self._view != "Choose"
        if action == "model":
            return self.is_mounted and bool(self._location) and self._view in ("Report", "Lengths")
        return True

    @property
    def _view(self) -> str:
        return self.query_one("#tabs", TabStrip).open

    @on(DataStep.Chosen)
    def _data_chosen(self, message: DataStep.Chosen) -> None:
        message.stop()
        self.goes_back = False
        self.open_data(message.location)

    def open_data(self, location: str) -> None:
        """Scan a dataset and show its report.

        Args:
            location: file, folder or hub id.
        """
        self._location = location
        self.reset_pairs()
        self._tokens = self._named or self._chosen()
        self.query_one("#report", TextPane).show([("Reading …", "muted")], top=True)
        self._open_view("Report")
        self._start_scan()

    def _chosen(self) -> CountSettings | None:
        plan = self._plan_of_new()
        return CountSettings.of(plan.config) if plan is not None and plan.has_model else None

    def _start_scan(self) -> None:
        """Scan the open data, in place of a scan that still runs; decisions about its rows stay."""
        if self._scan is not None:
            self._scan.close()
        self._tokens_error = ""
        self._source = source = (self._plan_of_new() or RunPlan()).source_at(self._location)
        request = ScanRequest(source)
        if (tokens := self._tokens) is not None:
            request = ScanRequest(
                source,
                model=tokens.model,
                max_length=tokens.max_length,
                truncation=tokens.truncation,
                template=tokens.template,
            )
        self._scan = ScanProcess(request)
        self._follow_scan(self._scan, self._location)

    @work(thread=True, exclusive=True, group="scan", exit_on_error=False)
    def _follow_scan(self, scan: ScanProcess, location: str) -> None:
        rows_complete = False
        try:
            for event in scan.events():
                if scan is not self._scan:
                    return
                self.app.call_from_thread(self._scan_event, event)
                if not rows_complete and event["event"] != "progress" and event["report"]["complete"]:
                    rows_complete = True  # all rows are read; tokens may still be counted
                    self._open_dataset(location)
        except DpoTuiError as error:
            if scan is self._scan:
                self.app.call_from_thread(self._scan_failed, error, rows_complete)
        finally:
            scan.close()

    def _open_dataset(self, location: str) -> None:
        if self.dataset is None:
            self.app.call_from_thread(self._dataset_opened, location, DatasetBrowser(location, self._source))

    def _scan_failed(self, error: DpoTuiError, rows_complete: bool) -> None:
        """Show the error in place of the report or, when only tokens could not be counted, in place of the lengths."""
        if rows_complete:
            self._tokens_error = " ".join(part for part in (error.message, error.hint) if part)
            self._show_lengths()
            self.show_position()
        else:
            text = [(f"✗ {error.message}", "bad"), (error.hint or "", "accent")]
            self.query_one("#report", TextPane).show(text)

    def _scan_event(self, event: dict[str, Any]) -> None:
        if event["event"] == "progress":
            percent = f"{event['done'] / event['total']:.0%}" if event.get("total") else ""
            self._progress = f"{event['phase']} {percent}"
            self.draw_when_front(self._show_progress)
        else:
            self.report = event["report"]
            self.draw_when_front(self._show_report)

    def _show_progress(self) -> None:
        self.query_one("#where", TitleRow).show([[("Data", "title")], [(self._progress, "muted")]])

    def _show_report(self) -> None:
        if self.report is not None:
            self.query_one("#report", TextPane).show(report_page(self.report))
        self._show_lengths()
        self.show_position()

    def _show_lengths(self) -> None:
        model = self._tokens.model if self._tokens is not None else ""
        self.query_one("#lengths", TextPane).show(lengths_text(self.report, model, self._tokens_error))

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def action_model(self) -> None:
        """Ask for a model and a max_seq_length, and count tokens as training with them does."""
        known = self._tokens or self._chosen() or CountSettings("", _DEFAULT_LENGTH)
        dialog = InputDialog("Count tokens with the model", known.model, "hub id (org/name) or folder")
        name = await self.app.push_screen_wait(dialog)
        typed = await self.app.push_screen_wait(InputDialog("max_seq_length", str(known.max_length))) if name else None
        if not name or not typed:
            return
        if not typed.isdigit() or not int(typed):
            self.notify("max_seq_length is a number of tokens.", severity="warning", markup=False)
            return
        self._named = self._tokens = known.of_model(name, int(typed))
        self._open_view("Lengths")
        self._start_scan()

    def _dataset_opened(self, location: str, dataset: DatasetBrowser) -> None:
        if location == self._location:
            self.dataset = dataset
            self.refresh_bindings()
            self._show_row(1)

    def show_position(self) -> None:
        """Show the data's name and, in the view of pairs, which one is shown and what was decided about it."""
        pairs = self.dataset if self._view == "Pairs" else None
        parts = title_parts(self._location, pairs, self._pair, self._check, self._decisions)
        self.query_one("#where", TitleRow).show(parts)

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def action_save(self) -> None:
        """Ask what to leave out and where to, and write a repaired copy."""
        dataset, decisions = self.dataset, self._decisions
        if dataset is None:
            return
        form = form_of(self.report["columns"] if self.report is not None else {})
        first = (locations_of(self._location) or (self._location,))[0]
        stem = expanded(first).name.partition(".")[0].strip("*?[]") or "pairs"
        out = Path.cwd() / f"{stem}.repaired.jsonl"

        def remaining(checks: tuple[str, ...]) -> str:
            return dataset.remaining(decisions, tuple(one for one in checks if one != FIX_ENCODING)).summary()

        chosen = await self.app.push_screen_wait(RepairDialog(droppable_checks(self.report), remaining, out))
        if chosen is None:
            return
        checks, out = chosen
        overwrite = ConfirmDialog(f"Write over {out.name}?", "There is a file of this name.", dangerous=True)
        if not out.exists() or await self.app.push_screen_wait(overwrite):
            self._save(dataset, decisions, checks, out, form)

    @work(thread=True, exclusive=True, group="save", exit_on_error=False)
    def _save(
        self, dataset: DatasetBrowser, decisions: Decisions, checks: tuple[str, ...], out: Path, form: RowForm
    ) -> None:
        dropped = tuple(one for one in checks if one != FIX_ENCODING)
        saved = dataset.save(decisions, dropped, out, form, fix_encoding=FIX_ENCODING in checks)
        message = (
            f"{saved.written:,} {saved.noun} written to {out}: {saved.changed:,} rows changed, {saved.left_out:,} left out; "
            f"{saved.sidecar.name} says which."
        )
        self.app.call_from_thread(self.notify, message, markup=False)

    def action_view(self, by: int) -> None:
        """Open the view ``by`` places further in the tab strip."""
        self._open_view(self.query_one("#tabs", TabStrip).step(by))

    @on(TabStrip.Picked)
    def _tab_picked(self, message: TabStrip.Picked) -> None:
        message.stop()
        self._open_view(message.name)

    def _open_view(self, name: str) -> None:
        self.query_one("#tabs", TabStrip).pick(name)
        self.query_one("#data-views", ContentSwitcher).current = _PANES[name]
        self.query_one("#files" if name == "Choose" else f"#{_PANES[name]}").focus()
        self.show_position()
        self.refresh_bindings()

    def action_back(self) -> None:
        """Go back to the report, to the choice of the data, or leave."""
        if self._view in ("Pairs", "Lengths"):
            self._open_view("Report")
        elif self._view == "Report" and not self.goes_back:
            self._open_view("Choose")
        else:
            self.post_message(self.Leave())
