"""Step 4 of New: a form made from the config schema, with help on a setting and the forecast of the plan beside it."""

from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Input, Static

from dpo_tui.config.recipes import NONE, RECIPES
from dpo_tui.config.schema import SECTIONS, choices, setting_text
from dpo_tui.config.toml_text import limits
from dpo_tui.hardware.memory.memory_estimate import GB
from dpo_tui.strategies.method_choice import METHOD_CHOICE
from dpo_tui.strategies.registry import settings_of_losses, strategy_of
from dpo_tui.text.durations import duration
from dpo_tui.views.planned_run_forecast import Forecast
from dpo_tui.views.run_plan import RunPlan, is_swept_here, parse, recipe_changes
from dpo_tui.views.run_plan import setting_text as value_text
from dpo_tui.views.styled_text import Paragraph
from dpo_tui.widgets.compact_inputs import LineInput
from dpo_tui.widgets.settings_form import FormRow, SchemaForm
from dpo_tui.widgets.step_bar import bar
from dpo_tui.widgets.text_pane import TextPane

# The order in which people need the sections; model and data have steps of their own and come last.
ORDER = (
    *("training", "dpo", "kto", "cpo", "sft", "lora", "data", "model", "eval", "compute", "slurm", "run"),
    *("trl", "peft", "model_init"),
)
RECIPE = "recipe"
"""Name of the row that is no setting: it fills in several."""
_TITLES = {
    "recipe": "Starting point",
    "training": "Training",
    "dpo": "DPO",
    "kto": "KTO",
    "sft": "SFT",
    "cpo": "CPO and SimPO",
    "lora": "LoRA",
    "data": "Data",
    "model": "Model",
    "eval": "Evaluation",
    "compute": "Machine",
    "slurm": "Slurm job",
    "run": "Run",
    "trl": "TRL",
    "peft": "PEFT",
    "model_init": "Loading",
}
BAR_WIDTH = 24
"""Cells of the memory bar."""
MINUTE = 60
LEAST_SAVING = 0.01
"""Share of the tokens below which sorting batches by length is not worth naming a figure."""


class SettingsStep(Vertical):
    """The form on the left; on the right help on the setting under the cursor, and the forecast of the plan.

    Posts `Changed` for every change, while a value is being typed too.
    """

    DEFAULT_CSS = """
    SettingsStep > Horizontal { height: 1fr; }
    SettingsStep #form-side { width: 44; }
    SettingsStep #edit { display: none; height: 1; }
    SettingsStep #edit.-open { display: block; }
    SettingsStep #edit Static { width: auto; color: $text-accent; padding: 0 1 0 2; }
    SettingsStep #edit Input { width: 1fr; }
    SettingsStep #setting-help { padding: 0 0 0 2; }
    """

    class Changed(Message):
        """Posted when a setting gets a value.

        Attributes:
            name: the setting, or :data:`RECIPE`.
            value: its value; None removes it from the plan.
        """

        def __init__(self, name: str, value: Any) -> None:
            super().__init__()
            self.name = name
            self.value = value

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._editing = ""
        """Name of the setting in the edit line; empty when that is closed."""
        self._value_before: Any = None
        self._plan = RunPlan()
        self._forecast = Forecast()

    def compose(self) -> ComposeResult:
        """The form over its edit line, and the help beside them."""
        with Horizontal():
            with Vertical(id="form-side"):
                yield SchemaForm(id="form")
                with Horizontal(id="edit"):
                    yield Static("", id="edit-title", markup=False)
                    yield LineInput(id="edit-field")
            yield TextPane(id="setting-help")

    def show(self, plan: RunPlan, forecast: Forecast) -> None:
        """Show the settings of a plan, and what is forecast of it."""
        self._plan, self._forecast = plan, forecast
        rows = form_rows(plan)
        self.query_one(SchemaForm).show(rows, start=rows[1].name)  # not on the recipe: its help is a list
        self._show_help()

    def _show_help(self) -> None:
        row = self.query_one(SchemaForm).current
        name = self._editing or (row.name if row is not None else "")
        self.query_one("#setting-help", TextPane).show(setting_help(name, self._plan, self._forecast))

    @on(SchemaForm.Picked)
    def _row_picked(self, message: SchemaForm.Picked) -> None:
        message.stop()
        self._show_help()

    @on(SchemaForm.Changed)
    def _value_changed(self, message: SchemaForm.Changed) -> None:
        message.stop()
        if message.name == RECIPE:
            self.post_message(self.Changed(RECIPE, message.value or NONE))
            return
        value = {"yes": True, "no": False}.get(message.value, parse(message.name, message.value))
        self.post_message(self.Changed(message.name, value))

    @on(SchemaForm.EditRequested)
    def _open_edit(self, message: SchemaForm.EditRequested) -> None:
        message.stop()
        self._editing = message.row.name
        swept = self._editing in self._plan.sweep
        self._value_before = message.row.value if swept else self._plan.own.get(self._editing)
        self.query_one("#edit-title", Static).update(f"{message.row.title} =")
        field = self.query_one("#edit-field", LineInput)
        with field.prevent(Input.Changed):
            field.value = message.row.value
        self.query_one("#edit").add_class("-open")
        field.focus()

    @on(Input.Changed, "#edit-field")
    def _field_changed(self, message: Input.Changed) -> None:
        message.stop()
        if self._editing:
            self.post_message(self.Changed(self._editing, parse(self._editing, message.value)))

    @on(Input.Submitted, "#edit-field")
    def _field_submitted(self, message: Input.Submitted) -> None:
        message.stop()
        self.close_edit(keep=True)

    def close_edit(self, *, keep: bool) -> bool:
        """Close the edit line.

        Args:
            keep: whether the value typed stays; otherwise the setting gets back the value it had.

        Returns:
            Whether it was open.
        """
        if not self._editing:
            return False
        if not keep:
            self.post_message(self.Changed(self._editing, self._value_before))
        self._editing = ""
        self.query_one("#edit").remove_class("-open")
        self.query_one(SchemaForm).focus()
        return True


def form_rows(plan: RunPlan) -> list[FormRow]:
    """The recipe and every setting of a plan as rows of the form; none that only other strategies read."""
    own = strategy_of(plan.config).settings
    foreign = settings_of_losses() - own if own is not None else frozenset()
    chosen, names = plan.recipe or NONE, (NONE, *RECIPES)
    rows = [FormRow(RECIPE, _TITLES["recipe"], "recipe", chosen, changed=chosen != NONE, options=names)]
    for section in ORDER:
        for name, info in SECTIONS[section].model_fields.items():
            if name in foreign and plan.origin(name) == "default" and not plan.problem(name):
                continue
            description = setting_text(info)
            options = ("yes", "no") if info.annotation is bool else choices(info)
            rows.append(
                FormRow(
                    name=name,
                    section=_TITLES[section],
                    title=description.title,
                    value=_value(plan, name),
                    unit=description.unit,
                    changed=plan.origin(name) == "you",
                    problem=plan.problem(name),
                    advanced=description.advanced,
                    options=options if "list[" not in str(info.annotation) else (),
                )
            )
    return rows


def _value(plan: RunPlan, name: str) -> str:
    value = plan.shown(name)
    if name == "lora_alpha" and value is None:
        value = plan.config.alpha  # its default is twice the rank
    return value_text(value)


def setting_help(name: str, plan: RunPlan, forecast: Forecast) -> list[Paragraph]:
    """Help on one setting, followed by the outlook of the plan.

    Args:
        name: the setting; empty or unknown leaves only the outlook.
        plan: the plan, for the setting's value and where it comes from.
        forecast: what is forecast of the plan.
    """
    text: list[Paragraph] = []
    if name == RECIPE:
        text += [("Recipe", "heading"), *recipe_help(plan), ("", "text")]
    info = next((section.model_fields[name] for section in SECTIONS.values() if name in section.model_fields), None)
    if info is not None:
        description = setting_text(info)
        text += [(description.title, "heading"), (description.help, "text")]
        if name == "strategy":
            text += [("which one when", "muted"), *((f"{case} → {take}", "text") for case, take in METHOD_CHOICE)]
        if problem := plan.problem(name):
            text.append((f"✗ {problem}", "bad"))
        if bounds := limits(info):
            text.append((f"allowed: {bounds}", "muted"))
        if name in plan.sweep:
            text.append((f"sweep: a run for each of {len(plan.sweep[name])} values", "accent"))
        elif is_swept_here(name):
            text.append(("several with commas: a run for each", "muted"))
        profile = value_text(plan.profile_values[name]) if name in plan.profile_values else "—"
        from_file = value_text(plan.file_values[name]) if name in plan.file_values else "—"
        changed = "yes" if plan.origin(name) == "you" else "no"
        if name == "group_by_length" and (savings := grouping_text(plan, forecast)):
            text.append((savings, "text"))
        text += [(f"profile: {profile} · file: {from_file} · changed: {changed}", "muted"), ("", "text")]
    return [*text, *outlook(plan, forecast)]


def recipe_help(plan: RunPlan) -> list[Paragraph]:
    """The chosen recipe, its source and what it filled in; without one, every recipe and what it is for."""
    if not plan.recipe:
        intro = "A recipe fills in a loss with its settings as a starting point, and leaves the rest. ←/→ choose one."
        return [(intro, "text"), *((f"{one.name}: {one.title}, {one.when}", "muted") for one in RECIPES.values())]
    recipe = RECIPES[plan.recipe]
    lines: list[Paragraph] = [(f"{recipe.title}: take it {recipe.when}.", "text"), (f"from: {recipe.source}", "muted")]
    return [*lines, *((line, "accent") for line in recipe_changes(plan))]


def grouping_text(plan: RunPlan, forecast: Forecast) -> str:
    """Share of tokens that batches of similar lengths save on this data; empty while that is not known."""
    padding = forecast.padding
    if padding is None:
        return ""
    amount = f"{padding.saved:.0%} of the tokens" if padding.saved >= LEAST_SAVING else "next to nothing"
    off = plan.config.share_prefix == "off"
    shared = "" if off else "; share_prefix lays pairs side by side, which spares padding too"
    padded = f"about {padding.shuffled:.0%} of a random batch is padding, by length {padding.grouped:.0%}"
    return f"On this data {padded}: it spares {amount}{shared}."


def outlook(plan: RunPlan, forecast: Forecast) -> list[Paragraph]:
    """Memory, steps, time and advice of a plan; the check step shows the same lines."""
    text: list[Paragraph] = []
    if forecast.memory is not None:
        need = forecast.memory.total / GB
        free = forecast.free / GB if forecast.free else None
        role = {"fits": "good", "tight": "warn", "does-not-fit": "bad"}.get(forecast.verdict, "muted")
        if free:
            filled, empty = bar(need / free, BAR_WIDTH)
            text.append((f"memory {filled}{empty}", role))
            text.append((f"{need:.1f} of {free:.1f} GB · {forecast.verdict.replace('-', ' ')}", role))
        else:
            text.append((f"memory about {need:.1f} GB", "text"))
        text += [(f"→ {change.description}", "accent") for change in forecast.changes[:3]]
    elif forecast.unknown:
        text.append((f"memory: {forecast.unknown}", "muted"))
    config = plan.config
    text.append((f"effective batch {config.batch_text} = {config.effective_batch} pairs", "text"))
    if forecast.steps is not None:
        text.append((f"{forecast.steps.steps:,} steps{_duration(forecast)}", "text"))
        if forecast.duration is not None:
            text.append((forecast.duration.basis, "muted"))
    if forecast.sizes.basis:
        text.append((forecast.sizes.basis, "muted"))
    for advice in forecast.advice:
        text.append((f"{'!' if advice.severity != 'info' else '·'} {advice.message}", _SEVERITY_ROLES[advice.severity]))
    return text


def _duration(forecast: Forecast) -> str:
    """Forecast duration of all steps; below a minute a number of seconds would claim more than is known."""
    if forecast.duration is None:
        return ""
    seconds = forecast.duration.seconds
    return f" · about {duration(seconds)}" if seconds >= MINUTE else " · under a minute, without loading"


_SEVERITY_ROLES = {"info": "muted", "warning": "warn", "error": "bad"}
