"""Step 5: everything that can be known before the start, and the start itself."""

import shutil
from collections.abc import Sequence
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message

from dpo_tui import paths
from dpo_tui.config.schema import Config
from dpo_tui.hardware.doctor.registry import DoctorFinding
from dpo_tui.hardware.doctor.doctor_child import DoctorProcess
from dpo_tui.hardware.memory.memory_estimate import GB
from dpo_tui.views.run_forecast import Forecast
from dpo_tui.views.doctor_findings import machine, relevant, trouble
from dpo_tui.views.run_plan import RunPlan
from dpo_tui.start.prepare import Prepared
from dpo_tui.screens.steps.settings_step import outlook
from dpo_tui.widgets.full_screen import FullScreen
from dpo_tui.widgets.text_pane import Paragraph, TextPane

_ROWS_NAMED = 3
LITTLE_DISK = 10e9
"""Bytes below which checkpoints of an adapter and its optimizer may not all find room."""


class CheckStep(Vertical):
    """The last look; Enter starts."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "start", "start", id="check.start")]

    class Start(Message):
        """The person wants the run to start."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._text: list[Paragraph] = []
        self._ready = False
        self._findings: list[DoctorFinding] = []
        self._doctor: DoctorProcess | None = None
        self._asked = False

    def compose(self) -> ComposeResult:
        """One page."""
        yield TextPane(id="check-words")

    def on_unmount(self) -> None:
        """End an examination that still goes on."""
        self._end_examination()

    def show(self, text: Sequence[Paragraph], *, ready: bool = False) -> None:
        """Show what was found about the run; what is found about the machine joins it.

        Args:
            text: about the run.
            ready: whether the run may start.
        """
        self._text, self._ready = list(text), ready
        self._when_seen()

    def _when_seen(self) -> None:
        screen = self.screen
        if isinstance(screen, FullScreen):
            screen.when_seen(self._show)
        else:
            self._show()

    def _show(self) -> None:
        text = self._text
        if self._asked:
            told = machine(self._findings, looking=self._doctor is not None)
            # Trouble stands at the top, where it is seen on a short terminal too.
            first, rest = ([self._verdict()], [("", "text"), *text]) if self._ready else (text, [])
            text = [*first, *trouble(self._findings), *rest, ("", "text"), *told]
        self.query_one(TextPane).show(text)

    def _verdict(self) -> Paragraph:
        if any(finding.status == "fail" for finding in self._findings):
            return ("Enter starts the run, but on this machine it is likely to fail:", "bad")
        return ("Ready: enter starts the run, and it goes on without this window.", "good")

    def examine(self, config: Config) -> None:
        """Have the doctor look at what matters for a run; its findings appear one by one."""
        self._end_examination()
        self._findings, self._asked = [], True
        self._doctor = DoctorProcess(*relevant(config))
        self._follow(self._doctor)

    def forget(self) -> None:
        """There is nothing to examine yet."""
        self._end_examination()
        self._findings, self._asked = [], False

    def _end_examination(self) -> None:
        doctor, self._doctor = self._doctor, None
        if doctor is not None:
            doctor.close()

    @work(thread=True, exclusive=True, group="doctor", exit_on_error=False)
    def _follow(self, doctor: DoctorProcess) -> None:
        for finding in doctor.findings():
            if doctor is not self._doctor:
                return
            self.app.call_from_thread(self._found, doctor, finding)
        if doctor is self._doctor:
            self.app.call_from_thread(self._found, doctor, None)

    def _found(self, doctor: DoctorProcess, finding: DoctorFinding | None) -> None:
        if doctor is not self._doctor:
            return
        if finding is None:
            self._doctor = None
        else:
            self._findings.append(finding)
        self._when_seen()

    def action_start(self) -> None:
        """Start the run."""
        self.post_message(self.Start())


def missing(plan: RunPlan) -> list[Paragraph]:
    """What keeps a plan from being checked; empty when nothing does."""
    text: list[Paragraph] = []
    if not plan.has_model:
        text.append(("✗ Choose a model (step 2).", "bad"))
    if not plan.has_data:
        text.append(("✗ Choose the data (step 3).", "bad"))
    text += [(f"✗ {problem.key}: {problem.message}", "bad") for problem in plan.problems]
    return text


def summary(plan: RunPlan, forecast: Forecast, prepared: Prepared) -> list[Paragraph]:
    """What will run, on what, with which rows, and where it is written."""
    config = prepared.config
    text: list[Paragraph] = [
        (f"model   {config.model_name}", "text"),
        (f"data    {config.dataset}", "text"),
        (f"rows    {prepared.usable:,} of {prepared.rows:,} can be used", "text"),
    ]
    text += [(f"        row {row.row}: {row.message}", "warn") for row in prepared.dropped[:_ROWS_NAMED]]
    if len(prepared.dropped) > _ROWS_NAMED:
        text.append((f"        and {len(prepared.dropped) - _ROWS_NAMED:,} more", "warn"))
    home = paths.runs()
    text += [
        (f"runs on {_where(prepared)}", "text"),
        (f"writes  {home}", "text"),
        _disk(),
        ("", "text"),
        ("Outlook", "heading"),
        *outlook(plan, forecast),
    ]
    if forecast.memory is not None:
        text += [("", "text"), ("Memory by part", "heading")]
        text += [(f"{part.size / GB:>7.2f} GB  {part.label}", "code") for part in forecast.memory.parts]
        text += [(note, "muted") for note in forecast.memory.notes]
    return text


def _where(prepared: Prepared) -> str:
    request = prepared.device_request
    if request is not None:
        return f"{request.words} of {', '.join(request.candidates)}"
    return ", ".join(prepared.devices) or "the CPU"


def _disk() -> Paragraph:
    place = paths.home()
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    words = f"disk    {free / 1e9:,.0f} GB free"
    return (words, "text") if free > LITTLE_DISK else (f"{words}: little room for checkpoints", "warn")
