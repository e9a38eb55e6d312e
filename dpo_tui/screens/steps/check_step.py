"""Step 5 of New: what will run, what the doctor finds on this machine, and the key that starts the run."""

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
from dpo_tui.hardware.doctor.doctor_child import DoctorProcess
from dpo_tui.hardware.doctor.registry import DoctorFinding
from dpo_tui.hardware.memory.memory_estimate import GB
from dpo_tui.screens.steps.settings_step import MINUTE, outlook
from dpo_tui.start.prepare import Prepared
from dpo_tui.text.durations import duration
from dpo_tui.views.doctor_findings import findings_text, problems_text, relevant_checks
from dpo_tui.views.planned_run_forecast import Forecast
from dpo_tui.views.run_plan import RunPlan
from dpo_tui.views.styled_text import Paragraph
from dpo_tui.widgets.full_screen import FullScreen
from dpo_tui.widgets.text_pane import TextPane

LONG_ON_CPU = 3 * 3600.0
"""Seconds on a CPU from which a run is called long: nobody should wait that long unawares."""
_GRAVE = {"error": 0, "warning": 1}
_ROWS_NAMED = 3
"""Dropped rows that are named one by one."""
LITTLE_DISK = 10e9
"""Free bytes below which the checkpoints of an adapter and its optimizer may not all fit."""


class CheckStep(Vertical):
    """A page about the run and the machine.

    Posts `Start`. The doctor's checks run in a child process, which ends with the widget; their findings are added to
    the page one by one and hold nothing up.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "start", "start", id="check.start")]

    class Start(Message):
        """Posted when the user starts the run; it may still lack a model or data."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._text: list[Paragraph] = []
        self._ready: Sequence[Paragraph] = ()
        """What is said first of a run that can start."""
        self._findings: list[DoctorFinding] = []
        self._doctor: DoctorProcess | None = None
        """The doctor's process; None when it has ended."""
        self._doctor_started = False

    @property
    def findings(self) -> tuple[DoctorFinding, ...]:
        """What the doctor has found by now."""
        return tuple(self._findings)

    @property
    def is_examining(self) -> bool:
        """Whether the doctor may still find something."""
        return self._doctor is not None

    def compose(self) -> ComposeResult:
        """The page."""
        yield TextPane(id="check-text")

    def on_unmount(self) -> None:
        """End the doctor's process."""
        self._end_doctor()

    def show(self, text: Sequence[Paragraph], *, ready: Sequence[Paragraph] = ()) -> None:
        """Show a text about the run, together with the doctor's findings about the machine.

        Args:
            text: about the run.
            ready: what is said first of a run that can start, as `verdict` makes it; empty for one that cannot.
        """
        self._text, self._ready = list(text), ready
        self._show_when_seen()

    def _show_when_seen(self) -> None:
        screen = self.screen
        if isinstance(screen, FullScreen):
            screen.draw_when_front(self._show)
        else:
            self._show()

    def _show(self) -> None:
        text = self._text
        if self._doctor_started:
            findings = findings_text(self._findings, running=self.is_examining)
            # Problems come first, so that they are seen on a short terminal too.
            first, rest = (self._verdict(), [("", "text"), *text]) if self._ready else (text, [])
            text = [*first, *problems_text(self._findings), *rest, ("", "text"), *findings]
        self.query_one(TextPane).show(text)

    def _verdict(self) -> Sequence[Paragraph]:
        if any(finding.status == "fail" for finding in self._findings):
            return [("Enter starts the run, but on this machine it is likely to fail:", "bad")]
        return self._ready

    def start_doctor(self, config: Config) -> None:
        """Start the doctor's checks that matter for a run with this config."""
        self._end_doctor()
        self._findings, self._doctor_started = [], True
        self._doctor = DoctorProcess(*relevant_checks(config))
        self._follow_doctor(self._doctor)

    def stop_doctor(self) -> None:
        """End the checks and forget their findings: the plan is not complete."""
        self._end_doctor()
        self._findings, self._doctor_started = [], False

    def _end_doctor(self) -> None:
        doctor, self._doctor = self._doctor, None
        if doctor is not None:
            doctor.close()

    @work(thread=True, exclusive=True, group="doctor", exit_on_error=False)
    def _follow_doctor(self, doctor: DoctorProcess) -> None:
        for finding in doctor.findings():
            if doctor is not self._doctor:
                return
            self.app.call_from_thread(self._doctor_found, doctor, finding)
        if doctor is self._doctor:
            self.app.call_from_thread(self._doctor_found, doctor, None)

    def _doctor_found(self, doctor: DoctorProcess, finding: DoctorFinding | None) -> None:
        """Add a finding; None means that there are no more."""
        if doctor is not self._doctor:
            return  # the doctor was started anew, for another plan
        if finding is None:
            self._doctor = None
        else:
            self._findings.append(finding)
        self._show_when_seen()

    def action_start(self) -> None:
        """Start the run."""
        self.post_message(self.Start())


def missing(plan: RunPlan) -> list[Paragraph]:
    """What a plan lacks, and which of its settings are wrong; empty when it can be checked."""
    text: list[Paragraph] = []
    if not plan.has_model:
        text.append(("✗ Choose a model (step 2).", "bad"))
    if not plan.has_data:
        text.append(("✗ Choose the data (step 3).", "bad"))
    text += [(f"✗ {problem.key}: {problem.message}", "bad") for problem in plan.problems]
    return text


def verdict(forecast: Forecast, *, on_cpu: bool) -> list[Paragraph]:
    """Whether a run that can start should: how long it takes, and the worst of what is forecast.

    Args:
        forecast: what is forecast of the run.
        on_cpu: whether it trains without a GPU.
    """
    seconds = forecast.duration.seconds if forecast.duration is not None else None
    takes = "" if seconds is None else f" It takes about {duration(seconds)}." if seconds >= MINUTE else ""
    if forecast.verdict == "does-not-fit" and forecast.memory is not None and forecast.free:
        need, free = forecast.memory.total / GB, forecast.free / GB
        return [(f"Enter starts the run, but it needs about {need:.1f} GB where {free:.1f} GB are free.{takes}", "bad")]
    if on_cpu and seconds is not None and seconds > LONG_ON_CPU:
        text = (
            f"Enter starts the run, but without a GPU it takes about {duration(seconds)}. A smaller model, fewer pairs "
            "or epochs, or a machine with a GPU would change that."
        )
        return [(text, "bad")]
    ready: list[Paragraph] = [(f"Ready: enter starts the run, and it goes on without this window.{takes}", "good")]
    grave = sorted(
        (advice for advice in forecast.advice if advice.severity in _GRAVE), key=lambda a: _GRAVE[a.severity]
    )
    return ready + [(f"! {advice.message}", "warn") for advice in grave[:1]]


def summary(plan: RunPlan, forecast: Forecast, prepared: Prepared) -> list[Paragraph]:
    """What will run, on which devices, with which rows, where it is written, and what is forecast of it.

    Args:
        plan: the plan.
        forecast: what is forecast of it.
        prepared: the plan's run as `dpo_tui.start.prepare.prepare` has checked it.
    """
    config = prepared.config
    text: list[Paragraph] = [
        (f"model   {config.model_name}", "text"),
        (f"data    {config.dataset_text}", "text"),
        (f"rows    {prepared.usable:,} of {prepared.rows:,} can be used", "text"),
    ]
    unusable = [row for row in prepared.dropped if row.check != "tie"]  # the notes count these
    text += [(f"        {row.label}: {row.message}", "warn") for row in unusable[:_ROWS_NAMED]]
    if unusable:
        more = len(unusable) - _ROWS_NAMED
        text.append((f"        {f'and {more:,} more; ' if more > 0 else ''}^r shows them, to edit or drop", "warn"))
    text += [(f"        {note}", "warn") for note in prepared.data_notes]
    text[1:1] = [(f"        {note}", "warn") for note in (*prepared.model_notes, *prepared.launcher_notes)]
    for found in prepared.template:
        text.append((found.sentence, "warn" if found.severity == "warning" else "muted"))
    home = paths.runs()
    text += [
        (f"runs on {_devices(prepared)}", "text"),
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


def _devices(prepared: Prepared) -> str:
    request = prepared.device_request
    if request is not None:
        return f"{request.description} of {', '.join(request.candidates)}"
    return ", ".join(prepared.devices) or "the CPU"


def _disk() -> Paragraph:
    # The home folder may not exist before the first run: its nearest existing parent is on the same disk.
    place = paths.home()
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    text = f"disk    {free / 1e9:,.0f} GB free"
    return (text, "text") if free > LITTLE_DISK else (f"{text}: little room for checkpoints", "warn")
