"""New: a guided path in five steps, in any order, kept when you leave."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import ContentSwitcher

from dpo_tui.errors import DpoTuiError
from dpo_tui.hardware import nvml
from dpo_tui.hardware.gpu_choice import recommend
from dpo_tui.hardware.profiles import SETTINGS, Profile, main_memory
from dpo_tui.views import run_plan as plans
from dpo_tui.views.run_forecast import Forecast, Forecaster
from dpo_tui.views.run_plan import RunPlan
from dpo_tui.text.printable import printable
from dpo_tui.start.prepare import create_run, prepare
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launch import start
from dpo_tui.runs.launch import ARGV_VARIABLE
from dpo_tui.screens.steps import check_step
from dpo_tui.screens.steps.check_step import CheckStep
from dpo_tui.screens.steps.data_step import DataStep
from dpo_tui.screens.steps.hardware_step import HardwareStep
from dpo_tui.screens.steps.model_step import DEMO, ModelStep
from dpo_tui.screens.steps.settings_step import SettingsStep
from dpo_tui.widgets.full_screen import FullScreen
from dpo_tui.widgets.dialogs import InputDialog
from dpo_tui.widgets.key_hints import KeyHints
from dpo_tui.widgets.schema_form import SchemaForm
from dpo_tui.widgets.tab_strip import TabStrip

STEPS = ("1 Hardware", "2 Model", "3 Data", "4 Settings", "5 Check")
_PANES = ("hardware", "model", "data", "settings", "check")
_FIRST_FOCUS = ("#profiles", "#models", "#files", "#form", "#check-words")


class NewScreen(FullScreen):
    """The five steps and the plan that they build."""

    CSS_PATH = Path(__file__).with_suffix(".tcss")
    HELP = (
        "Five steps to a run: enter takes what is chosen and goes on, esc goes a step back, ctrl+n and ctrl+b go "
        "forth and back from anywhere. Nothing is lost when you leave; ctrl+o opens a config file."
    )
    GUIDE_PAGE = "practice"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+n", "step(1)", "next", id="new.next", key_display="^n"),
        Binding("ctrl+b", "step(-1)", "back", id="new.back-step", show=False),
        Binding("ctrl+o", "open", "open a config", id="new.open", show=False),
        Binding("escape", "back", "back", id="new.back"),
    ]

    class Started(Message):
        """A run was made and is being started."""

        def __init__(self, folder: RunFolder) -> None:
            super().__init__()
            self.folder = folder

    def __init__(self) -> None:
        super().__init__(id="new-screen")
        self.plan = RunPlan()
        self._at = 0
        self._profile: Profile | None = None
        self._forecaster: Forecaster | None = None
        self._forecast = Forecast()
        self._starting = False

    def compose(self) -> ComposeResult:
        """Steps over panes over keys."""
        yield TabStrip(STEPS, id="steps")
        with ContentSwitcher(initial="hardware", id="panes"):
            yield HardwareStep(id="hardware")
            yield ModelStep(id="model")
            yield DataStep(id="data")
            yield SettingsStep(id="settings")
            yield CheckStep(id="check")
        yield KeyHints()

    def on_mount(self) -> None:
        """Look at the machine."""
        self._find_hardware()

    @work(thread=True, exclusive=True, group="hardware", exit_on_error=False)
    def _find_hardware(self) -> None:
        inventory = nvml.read()
        profile = recommend(inventory, main_memory())
        name = next((gpu.name for gpu in inventory.gpus if gpu.index == profile.gpu), "")
        self.app.call_from_thread(self._machine_known, profile, name)

    def _machine_known(self, profile: Profile, device_name: str) -> None:
        self._profile = profile
        self._forecaster = Forecaster(profile, device_name)
        self.query_one(HardwareStep).show(profile, self.plan)
        if not self.plan.profile and self.plan.file is None:
            self.plan = plans.with_profile(self.plan, profile.name, SETTINGS[profile.name])
        if self._at == 0:
            self.query_one("#profiles").focus()
        self._plan_changed()

    def open_file(self, path: Path, changes: Mapping[str, Any] | None = None) -> None:
        """Begin from a config file, such as that of an earlier run.

        Args:
            path: the file.
            changes: settings to change in it at once, such as a remedy; they are marked as changed.
        """
        try:
            opened = plans.with_file(self.plan, path)
        except DpoTuiError as error:
            self.show_failure(error)
            return
        self._set(plans.with_remedy(opened, changes or {}))
        self.go(_PANES.index("settings"))
        if changes:
            self.query_one(SchemaForm).go_to(next(iter(changes)))
            self.notify(f"Changed as advised: {', '.join(changes)}. ^n goes on to the start.", markup=False)

    def _set(self, plan: RunPlan) -> None:
        self.plan = plan
        self._plan_changed()

    def _plan_changed(self) -> None:
        strip = self.query_one("#steps", TabStrip)
        done = (self._profile is not None and self._at > 0, self.plan.has_model, self.plan.has_data)
        wrong = bool(self.plan.problems)
        marks = [" ✓" if yes else "" for yes in done] + [" ✗" if wrong else "", ""]
        strip.marks = dict(zip(STEPS, marks, strict=True))
        strip.redraw()
        self.query_one(SettingsStep).show(self.plan, self._forecast)
        if self._forecaster is not None and not wrong:
            self._look_ahead(self.plan, self._forecaster)

    @work(thread=True, exclusive=True, group="forecast", exit_on_error=False)
    def _look_ahead(self, plan: RunPlan, forecaster: Forecaster) -> None:
        forecast = forecaster.forecast(plan)
        self.app.call_from_thread(self._forecast_known, plan, forecast)

    def _forecast_known(self, plan: RunPlan, forecast: Forecast) -> None:
        if plan is self.plan:
            self._forecast = forecast
            self.query_one(SettingsStep).show(plan, forecast)

    def go(self, step: int) -> None:
        """Open a step."""
        self._at = min(max(step, 0), len(STEPS) - 1)
        self.query_one("#steps", TabStrip).pick(STEPS[self._at])
        self.query_one("#panes", ContentSwitcher).current = _PANES[self._at]
        if self._profile is not None and _PANES[self._at] == "model":
            self.query_one(ModelStep).show(self._profile, self.plan)
        elif _PANES[self._at] == "data":
            self.query_one(DataStep).show(self.plan)
        elif _PANES[self._at] == "check":
            self._check()
        self.query_one(_FIRST_FOCUS[self._at]).focus()
        self._plan_changed()

    @on(TabStrip.Picked)
    def _pick(self, message: TabStrip.Picked) -> None:
        message.stop()
        self.go(STEPS.index(message.name))

    @on(HardwareStep.Chosen)
    def _take_profile(self, message: HardwareStep.Chosen) -> None:
        message.stop()
        self._set(plans.with_profile(self.plan, message.name, SETTINGS[message.name]))  # type: ignore[index]
        self.go(1)

    @on(ModelStep.Chosen)
    def _take_model(self, message: ModelStep.Chosen) -> None:
        message.stop()
        if message.name == DEMO:
            self._set(plans.with_demo(self.plan))
            self.go(_PANES.index("check"))
            return
        self._set(plans.with_values(self.plan, {"model_name": message.name}))
        self.go(2)

    @on(DataStep.Chosen)
    def _take_data(self, message: DataStep.Chosen) -> None:
        message.stop()
        self._set(plans.with_values(self.plan, {"dataset": message.location}))
        self.go(3)

    @on(SettingsStep.Changed)
    def _take_setting(self, message: SettingsStep.Changed) -> None:
        message.stop()
        self._set(plans.with_values(self.plan, {message.name: message.value}))

    def _check(self) -> None:
        pane = self.query_one(CheckStep)
        if absent := check_step.missing(self.plan):
            pane.forget()
            pane.show(absent)
            return
        pane.examine(self.plan.config)
        pane.show([("Reading the data …", "muted")])
        self._check_thoroughly(self.plan)

    @work(thread=True, exclusive=True, group="check", exit_on_error=False)
    def _check_thoroughly(self, plan: RunPlan) -> None:
        pane = self.query_one(CheckStep)
        try:
            prepared = prepare(plan.loaded(), tell=self._tell_merge)
        except DpoTuiError as error:
            self.app.call_from_thread(pane.show, [(f"✗ {error.message}", "bad"), (error.hint or "", "accent")])
            return
        forecast = self._forecaster.forecast(plan) if self._forecaster is not None else Forecast()
        self.app.call_from_thread(pane.show, check_step.summary(plan, forecast, prepared), ready=True)

    def _tell_merge(self, message: Mapping[str, Any]) -> None:
        """Show how the merge of an earlier run's adapter goes: it may take minutes."""
        words = printable(str(message.get("message", "")), single_line=True)
        self.app.call_from_thread(self.query_one(CheckStep).show, [(words, "muted")])

    @on(CheckStep.Start)
    def _start(self, message: CheckStep.Start) -> None:
        message.stop()
        if check_step.missing(self.plan) or self._starting:
            return
        self._starting = True
        self._launch(self.plan)

    @work(thread=True, exclusive=True, group="start", exit_on_error=False)
    def _launch(self, plan: RunPlan) -> None:
        try:
            os.environ[ARGV_VARIABLE] = json.dumps(sys.argv)
            folder = create_run(prepare(plan.loaded()))
            self.app.call_from_thread(self.post_message, self.Started(folder))
            start(folder)
        finally:
            self._starting = False

    def action_step(self, by: int) -> None:
        """Go a step forth or back."""
        self.query_one(SettingsStep).close_edit(keep=True)
        self.go(self._at + by)

    @work(exclusive=True, group="open", exit_on_error=False)
    async def action_open(self) -> None:
        """Ask for a config file and begin from it."""
        path = await self.app.push_screen_wait(InputDialog("Begin from a config file", placeholder="run.toml"))
        if path:
            self.open_file(Path(path).expanduser())

    def action_back(self) -> None:
        """Leave the edit line, or go a step back, or leave."""
        if self.query_one(SettingsStep).close_edit(keep=False):
            return
        if self._at:
            self.go(self._at - 1)
        else:
            self.post_message(self.Leave())
