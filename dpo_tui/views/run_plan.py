"""The plan of a new run: settings of a profile, a file and the user, and what is wrong with them. Immutable."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpo_tui.config.files import LoadedConfig, from_values, load
from dpo_tui.config.problems import ConfigProblem, InvalidConfigError
from dpo_tui.config.recipes import NONE, recipe_of
from dpo_tui.config.schema import Config, choices, fields
from dpo_tui.config.toml_text import inline
from dpo_tui.demo import assets
from dpo_tui.groups.sweep_settings import WITHOUT_EFFECT
from dpo_tui.strategies.registry import settings_of_losses, strategy_in
from dpo_tui.text.location_list import locations_of
from dpo_tui.text.numbers import plain_number
from dpo_tui.text.plain_documents import parse_toml

if TYPE_CHECKING:
    from dpo_tui.data.source.source import Source

_CHOSEN_HERE = ("model_name", "dataset")
_NUMBERS = ("<class 'float'>", "<class 'int'>", "float | None", "int | None")
UNNAMED = "-"
"""The model or the dataset while none is chosen; never written to a run."""


@dataclass(frozen=True)
class RunPlan:
    """Settings in three layers, each over the one before, and the config that they make.

    Attributes:
        profile: name of the hardware profile; empty for none.
        profile_values: its settings.
        file: the config file that was opened, if any.
        file_values: its settings.
        own: settings of the user.
        sweep: values of the settings of which several are tried, by name; the first is among ``own``.
        recipe: name of the recipe whose settings are among ``own``; empty for none.
        config: all layers together; the last valid config while there are problems.
        problems: why the layers make no valid config.
    """

    profile: str = ""
    profile_values: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None
    file_values: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Any] = field(default_factory=dict)
    sweep: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    recipe: str = ""
    config: Config = field(default_factory=lambda: from_values({"model_name": UNNAMED, "dataset": UNNAMED}))
    problems: tuple[ConfigProblem, ...] = ()

    @property
    def has_model(self) -> bool:
        """Whether a model is chosen."""
        return self.config.model_name != UNNAMED

    @property
    def has_data(self) -> bool:
        """Whether data is chosen."""
        return self.config.dataset != UNNAMED

    @property
    def ready(self) -> bool:
        """Whether it could start."""
        return self.has_model and self.has_data and not self.problems

    def source_at(self, location: str) -> "Source":
        """Return a dataset as this plan reads it: with its split, columns and encoding, where they are meant for it.

        Args:
            location: of the dataset, or of several with commas between. The settings of a plan are those of its own
                data, or of the data that are about to be chosen.
        """
        from dpo_tui.data.source.evaluation_source import is_same_location
        from dpo_tui.data.source.source import Source, training_source

        locations = locations_of(location) or (location,)
        own = self.config.datasets
        same = len(own) == len(locations) and all(map(is_same_location, own, locations))
        if self.has_data and not same:
            return Source.of(locations)
        return replace(
            training_source(self.config), location=locations[0], more=locations[1:], max_rows=None, weights=()
        )

    def origin(self, name: str) -> str:
        """Where a setting comes from: ``you``, ``file``, ``profile`` or ``default``."""
        if name in self.own:
            return "you"
        if name in self.file_values:
            return "file"
        return "profile" if name in self.profile_values else "default"

    def problem(self, name: str) -> str:
        """The problem of a setting; empty for none."""
        return next((problem.message for problem in self.problems if problem.key == name), "")

    def shown(self, name: str) -> Any:
        """The value that a form shows: the user's, even while it is not valid."""
        if name in self.sweep:
            return self.sweep[name]
        return self.own[name] if name in self.own else getattr(self.config, name)

    def loaded(self) -> LoadedConfig:
        """The config in the form that `dpo_tui.start.prepare` takes, all settings with the origin ``file``."""
        origins = {name: "file" for name in (*self.profile_values, *self.file_values, *self.own)}
        return LoadedConfig(self.config, self.file, origins)  # type: ignore[arg-type]


def with_profile(plan: RunPlan, name: str, values: Mapping[str, Any]) -> RunPlan:
    """Replace the profile layer."""
    return _with_config(replace(plan, profile=name, profile_values=dict(values)))


def with_file(plan: RunPlan, path: Path) -> RunPlan:
    """Replace the file layer; settings of the user that the file has too are dropped.

    Raises:
        ConfigError: the file cannot be read, or is not valid. It may lack the model and the dataset.
    """
    absent: dict[str, Any] = {}
    try:
        loaded = load(path)
    except InvalidConfigError as error:
        absent = {problem.key: UNNAMED for problem in error.problems if problem.key in _CHOSEN_HERE}
        if len(absent) < len(error.problems):
            raise
        loaded = load(path, absent)
    values = {name: getattr(loaded.config, name) for name in loaded.origins if name not in absent}
    own = {name: value for name, value in plan.own.items() if name not in values}
    return _with_config(replace(plan, file=path, file_values=values, own=own, sweep={}))


def with_demo(plan: RunPlan) -> RunPlan:
    """Plan the demo: the shipped toy model and pairs with their settings."""
    opened = with_file(replace(plan, own={}), assets.config_file())
    return with_values(opened, _demo_values())


def _demo_values() -> dict[str, str]:
    """What the demo sets beside its config file."""
    return {
        "model_name": str(assets.model_dir()),
        "dataset": str(assets.pairs_file()),
        "eval_dataset": str(assets.heldout_file()),
        "name": "demo",
    }


def with_values(plan: RunPlan, values: Mapping[str, Any]) -> RunPlan:
    """Set settings of the user; None removes one, so that the file's or the profile's applies again."""
    plan = _without_demo(plan, values)
    kept = {name: value for name, value in plan.own.items() if name not in values}
    given = {name: value for name, value in values.items() if value is not None}
    several = {name: found for name, value in given.items() if (found := swept_values(name, value))}
    sweep = {name: found for name, found in plan.sweep.items() if name not in values} | several
    return _with_config(
        replace(plan, own=kept | given | {name: found[0] for name, found in several.items()}, sweep=sweep)
    )


def swept_values(name: str, value: Any) -> tuple[Any, ...]:
    """The numbers that were typed for a setting with commas between; empty where it has one value.

    Args:
        name: of the setting; only numbers that change the model are swept here.
        value: as `parse` returns it, which leaves such a text as it is.
    """
    if not isinstance(value, str) or "," not in value or not is_swept_here(name):
        return ()
    try:
        found = tuple(parse_toml(f"values = [{value}]")["values"])
    except ValueError:
        return ()
    return found if len(found) > 1 and len(set(map(str, found))) == len(found) else ()


def is_swept_here(name: str) -> bool:
    """Whether a form takes several values of a setting: of numbers that change the model."""
    info = fields().get(name)
    return info is not None and str(info.annotation) in _NUMBERS and name not in WITHOUT_EFFECT


def _without_demo(plan: RunPlan, values: Mapping[str, Any]) -> RunPlan:
    """Drop the demo's settings, which suit its toy model, when another model or other data are chosen."""
    demo = _demo_values()
    others = {name for name in _CHOSEN_HERE if name in values and values[name] != demo[name]}
    dropped = set()
    if plan.file == assets.config_file() and others:
        plan = replace(plan, file=None, file_values={})
        dropped.add("name")
    if "dataset" in others:
        dropped.add("eval_dataset")
    own = {name: value for name, value in plan.own.items() if name not in dropped or value != demo[name]}
    return replace(plan, own=own)


def with_recipe(plan: RunPlan, name: str) -> RunPlan:
    """Fill in the settings of a recipe as the user's, instead of those of the recipe before it.

    A setting of the loss that this recipe does not have goes back to the file's value or the default, so that no half
    of another loss is left.

    Args:
        plan: the plan.
        name: of the recipe; :data:`dpo_tui.config.recipes.NONE` takes the settings of the one before it out alone.
    """
    chosen = recipe_of(name).values if name != NONE else {}
    stale = {*_values_of(plan.recipe)} | (settings_of_losses() if chosen else set())
    kept = {key: value for key, value in plan.own.items() if key not in stale}
    return _with_config(replace(plan, own={**kept, **chosen}, recipe=name if chosen else ""))


def recipe_changes(plan: RunPlan) -> list[str]:
    """What the plan's recipe fills in, a line a setting, with the value that the plan would have without it."""
    if not plan.recipe:
        return []
    before = with_recipe(plan, NONE)
    lines = []
    for name, value in recipe_of(plan.recipe).values.items():
        old = getattr(before.config, name)
        was = "as it was" if old == value else f"was {setting_text(old) or '—'}"
        now = plan.shown(name)
        lines.append(f"{name} = {setting_text(value)} ({was if now == value else f'now {setting_text(now)}, by you'})")
    return lines


def _values_of(recipe: str) -> Mapping[str, Any]:
    return recipe_of(recipe).values if recipe else {}


def with_remedy(plan: RunPlan, changes: Mapping[str, Any]) -> RunPlan:
    """Apply the remedy of an advice as settings of the user; None unsets what the file sets."""
    return _with_config(replace(plan, own={**plan.own, **changes}))


def parse(name: str, text: str) -> Any:
    """Parse the text that was typed for a setting.

    Args:
        name: of the setting; its type in the schema decides.
        text: as typed.

    Returns:
        The value; None for an empty text; the text itself where it does not parse, for the schema to reject.
    """
    text = text.strip()
    if not text:
        return None
    info = fields()[name]
    annotation = str(info.annotation)
    if "dict[" in annotation:
        try:
            return parse_toml(f"value = {text if text.startswith('{') else f'{{{text}}}'}")["value"]
        except ValueError:
            return text
    if "tuple[str" in annotation:
        return locations_of(text)
    if "list[" in annotation:
        kind = float if "float" in annotation else str
        try:
            return [kind(part.strip()) for part in text.strip("[]").split(",") if part.strip()]
        except ValueError:
            return text
    if choices(info) or info.annotation is str or annotation in ("str | None", "typing.Optional[str]"):
        return text
    try:
        return parse_toml(f"value = {text.lower()}")["value"]
    except ValueError:
        return text


def setting_text(value: Any) -> str:
    """A setting's value as text: ``yes`` and ``no`` for booleans, empty for None, lists and tables with commas."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return inline(value)[1:-1]
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return plain_number(value) if isinstance(value, float) else str(value)


def _with_config(plan: RunPlan) -> RunPlan:
    """The plan with the config of its layers, or with their problems and the config as it was."""
    strategy = strategy_in({**plan.file_values, **plan.own})
    profile_values = {**plan.profile_values, **(strategy.allowed_batch(plan.profile_values) if strategy else {})}
    values = {"model_name": UNNAMED, "dataset": UNNAMED, **profile_values, **plan.file_values, **plan.own}
    if "lora_r" in {*plan.own, *plan.file_values} and not {"lora_alpha"} & {*plan.own, *plan.file_values}:
        values.pop("lora_alpha", None)  # without a value, alpha follows the rank that was set over the profile's
    for one, other in (("warmup_steps", "warmup_ratio"), ("warmup_ratio", "warmup_steps")):
        if plan.own.get(one) is not None and plan.own.get(other) is None:
            values.pop(other, None)  # the user's form of the warm-up replaces the file's
    try:
        for name, several in plan.sweep.items():
            for value in several[1:]:
                from_values(values | {name: value})
        return replace(plan, config=from_values(values), problems=())
    except InvalidConfigError as error:
        return replace(plan, problems=error.problems)
