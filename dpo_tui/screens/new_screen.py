"""New: five steps from the machine to a started run, in any order; the plan is kept while other screens are shown."""

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

from dpo_tui.paths import expanded
from dpo_tui.errors import DpoTuiError
from dpo_tui.groups.group_control import start_group
from dpo_tui.groups.group_store import create_group
from dpo_tui.hardware import nvml
from dpo_tui.hardware.gpu_choice import recommend
from dpo_tui.hardware.profiles import SETTINGS, Profile, main_memory
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.start_run import ARGV_VARIABLE, start
from dpo_tui.screens.steps import check_step
from dpo_tui.screens.steps.check_step import CheckStep
from dpo_tui.screens.steps.data_step import DataStep
from dpo_tui.screens.steps.hardware_step import HardwareStep
from dpo_tui.screens.steps.model_step import DEMO, ModelStep
from dpo_tui.screens.steps.settings_step import RECIPE, SettingsStep
from dpo_tui.start.adapter_start import require_mergeable
from dpo_tui.start.model_check import is_missing_folder, model_refusal
from dpo_tui.start.model_checks.own_code import UntrustedCodeError, remember_trust
from dpo_tui.start.prepare import create_run, prepare
from dpo_tui.text.location_list import locations_of
from dpo_tui.text.printable import printable
from dpo_tui.views import run_plan as plans
from dpo_tui.views.planned_run_forecast import Forecast, Forecaster
from dpo_tui.views.run_plan import RunPlan
from dpo_tui.views.sweep_plan_text import plan_lines, planned_sweep
from dpo_tui.widgets.dialogs import InputDialog
from dpo_tui.widgets.full_screen import FullScreen
from dpo_tui.widgets.key_hints import KeyHints
from dpo_tui.widgets.settings_form import SchemaForm
from dpo_tui.widgets.model_code_dialog import ModelCodeDialog
from dpo_tui.widgets.tab_strip import TabStrip

STEPS = ("1 Hardware", "2 Model", "3 Data", "4 Settings", "5 Check")
_PANES = ("hardware", "model", "data", "settings", "check")
_STEP_FOCUS = ("#profiles", "#models", "#files", "#form", "#check-text")


class NewScreen(FullScreen):
    """The five steps and the plan that they build.

    Posts `Started`, `DataStep.DataWanted` and `FullScreen.Leave`, which the app handles. Handles `HardwareStep.Chosen`,
    `ModelStep.Chosen`, `DataStep.Chosen`, `SettingsStep.Changed` and `CheckStep.Start`.

    Attributes:
        plan: what the run will be; replaced by `set_plan` and never changed in place.
    """

    CSS_PATH = Path(__file__).with_suffix(".tcss")
    HELP = (
        "Five steps to a run: enter takes what is chosen and goes on, esc goes a step back, ctrl+n and ctrl+b go "
        "forth and back from anywhere; ctrl+r opens the report and the rows of the data. Several numbers with commas "
        "between in a setting make a sweep, a run for each. Nothing is lost when you leave; ctrl+o opens a config file."
    )
    GUIDE_PAGE = "practice"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+n", "step(1)", "next", id="new.next", key_display="^n"),
        Binding("ctrl+b", "step(-1)", "back", id="new.back-step", show=False),
        Binding("ctrl+o", "open", "open a config", id="new.open", show=False),
        Binding("ctrl+r", "look_at_data", "report and rows", id="new.data", key_display="^r"),
        Binding("escape", "back", "back", id="new.back"),
    ]

    class Started(Message):
        """Posted when the folder of a run is made, before its supervisor starts.

        Attributes:
            folder: the run.
        """

        def __init__(self, folder: RunFolder) -> None:
            super().__init__()
            self.folder = folder

    def __init__(self) -> None:
        super().__init__(id="new-screen")
        self.plan = RunPlan()
        self._step = 0
        self._profile: Profile | None = None
        self._forecaster: Forecaster | None = None
        self._forecast = Forecast()
        self._model_refusal: tuple[str, DpoTuiError | None] = ("", None)
        """A model that was checked, by its name, and why no run could start from it."""
        self._starting = False

    def compose(self) -> ComposeResult:
        """The strip of steps, the open step and keys, from top to bottom."""
        yield TabStrip(STEPS, id="steps")
        with ContentSwitcher(initial="hardware", id="panes"):
            yield HardwareStep(id="hardware")
            yield ModelStep(id="model")
            yield DataStep(prompts_only=True, id="data")
            yield SettingsStep(id="settings")
            yield CheckStep(id="check")
        yield KeyHints()

    def on_mount(self) -> None:
        """Detect the hardware."""
        self._detect_hardware()

    @property
    def step(self) -> int:
        """The step that is open, from 0."""
        return self._step

    @property
    def forecast(self) -> Forecast:
        """Memory, steps and time of the plan, as far as they are known by now."""
        return self._forecast

    @work(thread=True, exclusive=True, group="hardware", exit_on_error=False)
    def _detect_hardware(self) -> None:
        inventory = nvml.read()
        profile = recommend(inventory, main_memory())
        name = next((gpu.name for gpu in inventory.gpus if gpu.index == profile.gpu), "")
        self.app.call_from_thread(self._hardware_detected, profile, name)

    def _hardware_detected(self, profile: Profile, device_name: str) -> None:
        self._profile = profile
        self._forecaster = Forecaster(profile, device_name)
        self.query_one(HardwareStep).show(profile, self.plan)
        if not self.plan.profile and self.plan.file is None:
            self.plan = plans.with_profile(self.plan, profile.name, SETTINGS[profile.name])
        if self._step == 0:
            self.query_one("#profiles").focus()
        self._plan_changed()

    def open_file(self, path: Path, changes: Mapping[str, Any] | None = None) -> None:
        """Take the settings of a config file, such as that of an earlier run, and open the step of settings.

        Args:
            path: the file. If it cannot be read, a dialog says why and the plan stays.
            changes: settings to change in it at once, such as a remedy; they are marked as changed by the user.
        """
        try:
            opened = plans.with_file(self.plan, path)
        except DpoTuiError as error:
            self.show_failure(error)
            return
        self.set_plan(plans.with_remedy(opened, changes or {}))
        self.go(_PANES.index("settings"))
        if changes:
            self.query_one(SchemaForm).go_to(next(iter(changes)))
            self.notify(f"Changed: {', '.join(changes)}. ^n goes on to the start.", markup=False)

    def set_plan(self, plan: RunPlan) -> None:
        """Replace the plan, and bring the marks of the steps and the forecast up to date."""
        self.plan = plan
        self._plan_changed()

    def _plan_changed(self) -> None:
        strip = self.query_one("#steps", TabStrip)
        done = (self._profile is not None and self._step > 0, self.plan.has_model, self.plan.has_data)
        invalid = bool(self.plan.problems)
        marks = [" ✓" if step_done else "" for step_done in done] + [" ✗" if invalid else "", ""]
        if self._refused is not None:
            marks[_PANES.index("model")] = " ✗"
        strip.marks = dict(zip(STEPS, marks, strict=True))
        strip.redraw()
        self.query_one(SettingsStep).show(self.plan, self._forecast)
        if self._forecaster is not None and not invalid:
            self._compute_forecast(self.plan, self._forecaster)

    @work(thread=True, exclusive=True, group="forecast", exit_on_error=False)
    def _compute_forecast(self, plan: RunPlan, forecaster: Forecaster) -> None:
        forecast = forecaster.forecast(plan)
        self.app.call_from_thread(self._show_forecast, plan, forecast)

    def _show_forecast(self, plan: RunPlan, forecast: Forecast) -> None:
        if plan is self.plan:  # the plan may have changed while this one was computed
            self._forecast = forecast
            self.query_one(SettingsStep).show(plan, forecast)

    def go(self, step: int) -> None:
        """Open a step.

        Args:
            step: its index from 0; one beyond the ends opens the first or last step.
        """
        self._step = min(max(step, 0), len(STEPS) - 1)
        self.query_one("#steps", TabStrip).pick(STEPS[self._step])
        self.query_one("#panes", ContentSwitcher).current = _PANES[self._step]
        if self._profile is not None and _PANES[self._step] == "model":
            self.query_one(ModelStep).show(self._profile, self.plan)
            self.query_one(ModelStep).show_refusal(self._refused)
            if self.plan.has_model:
                self._check_model(self.plan)
        elif _PANES[self._step] == "data":
            self.query_one(DataStep).show(self.plan)
        elif _PANES[self._step] == "check":
            self._check()
        self.query_one(_STEP_FOCUS[self._step]).focus()
        self._plan_changed()

    @on(TabStrip.Picked)
    def _tab_picked(self, message: TabStrip.Picked) -> None:
        message.stop()
        self.go(STEPS.index(message.name))

    @on(HardwareStep.Chosen)
    def _profile_chosen(self, message: HardwareStep.Chosen) -> None:
        message.stop()
        self.set_plan(plans.with_profile(self.plan, message.name, SETTINGS[message.name]))  # type: ignore[index]
        self.go(1)

    @on(ModelStep.Chosen)
    def _model_chosen(self, message: ModelStep.Chosen) -> None:
        message.stop()
        if message.name == DEMO:
            self.set_plan(plans.with_demo(self.plan))
            self.go(_PANES.index("check"))
            return
        self.set_plan(plans.with_values(self.plan, {"model_name": message.name}))
        self._check_model(self.plan)
        if not is_missing_folder(message.name):  # that is refused here; another model may take a while to check
            self.go(2)

    @property
    def _refused(self) -> DpoTuiError | None:
        """Why no run could start from the plan's model, as far as that is known by now."""
        name, error = self._model_refusal
        return error if name == self.plan.config.model_name else None

    @work(thread=True, exclusive=True, group="model", exit_on_error=False)
    def _check_model(self, plan: RunPlan) -> None:
        error = model_refusal(plan.loaded(), has_gpu=plan.config.gpus != "none" and bool(nvml.read().gpus))
        start = require_mergeable(plan.loaded()) if error is None else ""
        self.app.call_from_thread(self._model_checked, plan, error, start)

    def _model_checked(self, plan: RunPlan, error: DpoTuiError | None, start: str) -> None:
        """Mark the step of the model; a refusal is shown there, and at once where another step is open by now."""
        known = self._model_refusal
        self._model_refusal = (plan.config.model_name, error)
        if plan.config.model_name != self.plan.config.model_name:
            return
        self.query_one(ModelStep).show_refusal(error, start)
        self._plan_changed()
        is_new = known[0] != plan.config.model_name or known[1] is None
        if isinstance(error, UntrustedCodeError) and is_new:
            self._ask_about_code(error)
        elif error is not None and is_new and _PANES[self._step] != "model":
            self.notify(f"{error.message}. {error.hint or ''}".strip(), severity="error", markup=False)

    # Not exclusive: another worker would end this one and leave its dialog open.
    @work(group="code", exit_on_error=False)
    async def _ask_about_code(self, error: UntrustedCodeError) -> None:
        """Ask whether the model's own code may run; a yes is kept, and the model is checked again."""
        # Code that a config allows by its digest and that has changed since is for whoever wrote the config.
        if self.plan.config.trust_remote_code is not None or not self.is_current:
            return
        if not await self.app.push_screen_wait(ModelCodeDialog.of(error)):
            return
        remember_trust(error)
        self._model_refusal = ("", None)
        self._check_model(self.plan)
        if _PANES[self._step] == "check":
            self._check()

    @on(DataStep.Chosen)
    def _data_chosen(self, message: DataStep.Chosen) -> None:
        message.stop()
        self.set_plan(plans.with_values(self.plan, {"dataset": locations_of(message.location)}))
        self.go(3)

    @on(SettingsStep.Changed)
    def _setting_changed(self, message: SettingsStep.Changed) -> None:
        message.stop()
        if message.name == RECIPE:
            self.set_plan(plans.with_recipe(self.plan, message.value))
        else:
            self.set_plan(plans.with_values(self.plan, {message.name: message.value}))

    def _check(self) -> None:
        pane = self.query_one(CheckStep)
        if missing := check_step.missing(self.plan):
            pane.stop_doctor()
            pane.show(missing)
            return
        pane.start_doctor(self.plan.config)
        pane.show([("Reading the data …", "muted")])
        self._prepare_check(self.plan)

    @work(thread=True, exclusive=True, group="check", exit_on_error=False)
    def _prepare_check(self, plan: RunPlan) -> None:
        pane = self.query_one(CheckStep)
        if plan.sweep:
            self._check_sweep(plan, pane)
            return
        try:
            prepared = prepare(plan.loaded(), report=self._show_merge_progress)
        except DpoTuiError as error:
            self._show_problem(pane, error)
            return
        forecast = self._forecaster.forecast(plan) if self._forecaster is not None else Forecast()
        ready = check_step.verdict(forecast, on_cpu=not prepared.devices and prepared.device_request is None)
        self.app.call_from_thread(pane.show, check_step.summary(plan, forecast, prepared), ready=ready)

    def _check_sweep(self, plan: RunPlan, pane: CheckStep) -> None:
        """Check every combination of a sweep, and show its plan; called in a thread."""
        try:
            text = [(line, "text") for line in plan_lines(planned_sweep(plan))]
        except DpoTuiError as error:
            self._show_problem(pane, error)
            return
        ready = [("Ready: enter starts the sweep, and it goes on without this window.", "good")]
        self.app.call_from_thread(pane.show, text, ready=ready)

    def _show_problem(self, pane: CheckStep, error: DpoTuiError) -> None:
        """Show why the plan cannot run, and ask where a yes is all that is missing; called in a thread."""
        self.app.call_from_thread(pane.show, [(f"✗ {error.message}", "bad"), (error.hint or "", "accent")])
        if isinstance(error, UntrustedCodeError):
            self.app.call_from_thread(self._ask_about_code, error)

    def _show_merge_progress(self, message: Mapping[str, Any]) -> None:
        """Show the progress of merging an earlier run's adapter, which may take minutes; called in a thread."""
        text = printable(str(message.get("message", "")), single_line=True)
        self.app.call_from_thread(self.query_one(CheckStep).show, [(text, "muted")])

    @on(CheckStep.Start)
    def _start_requested(self, message: CheckStep.Start) -> None:
        message.stop()
        if check_step.missing(self.plan) or self._starting:
            return
        self._starting = True
        self._start_run(self.plan)

    @work(thread=True, exclusive=True, group="start", exit_on_error=False)
    def _start_run(self, plan: RunPlan) -> None:
        try:
            os.environ[ARGV_VARIABLE] = json.dumps(sys.argv)
            if plan.sweep:
                ready = planned_sweep(plan)
                start_group(create_group(ready.plan, ready.configs))
                message = f"{printable(ready.plan.name)}: {len(ready.members)} runs, one row in Runs; f unfolds it."
                self.app.call_from_thread(self.notify, message, markup=False)
                self.app.call_from_thread(self.post_message, self.Leave())
                return
            folder = create_run(prepare(plan.loaded()))
            self.app.call_from_thread(self.post_message, self.Started(folder))
            start(folder)
        finally:
            self._starting = False

    def action_step(self, by: int) -> None:
        """Go ``by`` steps further, or back if it is negative."""
        self.query_one(SettingsStep).close_edit(keep=True)
        self.go(self._step + by)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer the look at the data where there are any."""
        if action == "look_at_data":
            return self.is_mounted and _PANES[self._step] in ("data", "check") and bool(self._data_location)
        return True

    @property
    def _data_location(self) -> str:
        """What is typed or under the cursor in the step of data, else the data of the plan."""
        seen = self.query_one(DataStep).location if _PANES[self._step] == "data" else ""
        return seen or (self.plan.config.dataset_text if self.plan.has_data else "")

    def action_look_at_data(self) -> None:
        """Open the data in Data, where broken rows are seen, edited and dropped."""
        self.post_message(DataStep.DataWanted(self._data_location))

    @work(exclusive=True, group="open", exit_on_error=False)
    async def action_open(self) -> None:
        """Ask for a config file and take its settings."""
        path = await self.app.push_screen_wait(InputDialog("Begin from a config file", placeholder="run.toml"))
        if path:
            self.open_file(expanded(path))

    def action_back(self) -> None:
        """Close the edit line, go a step back, or leave."""
        if self.query_one(SettingsStep).close_edit(keep=False):
            return
        if self._step:
            self.go(self._step - 1)
        else:
            self.post_message(self.Leave())
