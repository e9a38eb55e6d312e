"""A run in the making: settings from a profile, a file and the person, and what is still wrong with them. Immutable."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dpo_tui.config.files import LoadedConfig, from_values, load
from dpo_tui.config.problems import ConfigProblem, InvalidConfigError
from dpo_tui.config.schema import Config, choices, fields
from dpo_tui.demo import assets
from dpo_tui.text.numbers import plain_number

_CHOSEN_HERE = ("model_name", "dataset")
UNNAMED = "-"
"""Stands for the model or the data while none is chosen; never written to a run."""


@dataclass(frozen=True)
class RunPlan:
    """What will be run, as far as it is decided.

    Attributes:
        profile: the profile whose settings are used; empty for none.
        profile_values: its settings.
        file: the config file that was opened, if any.
        file_values: its settings.
        own: what the person set here.
        config: all of it together; the last valid one while something is wrong.
        problems: what is wrong.
    """

    profile: str = ""
    profile_values: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None
    file_values: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Any] = field(default_factory=dict)
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

    def origin(self, name: str) -> str:
        """Where a setting comes from: ``you``, ``file``, ``profile`` or ``default``."""
        if name in self.own:
            return "you"
        if name in self.file_values:
            return "file"
        return "profile" if name in self.profile_values else "default"

    def problem(self, name: str) -> str:
        """What is wrong with a setting, or nothing."""
        return next((problem.message for problem in self.problems if problem.key == name), "")

    def shown(self, name: str) -> Any:
        """The value that a form shows: the person's even while it is wrong."""
        return self.own[name] if name in self.own else getattr(self.config, name)

    def loaded(self) -> LoadedConfig:
        """As if all of it came from a file."""
        origins = {name: "file" for name in (*self.profile_values, *self.file_values, *self.own)}
        return LoadedConfig(self.config, self.file, origins)  # type: ignore[arg-type]


def with_profile(plan: RunPlan, name: str, values: Mapping[str, Any]) -> RunPlan:
    """Use a profile's settings below the file's and the person's."""
    return _built(replace(plan, profile=name, profile_values=dict(values)))


def with_file(plan: RunPlan, path: Path) -> RunPlan:
    """Open a config file; what the person set before is kept only where the file says nothing.

    Raises:
        ConfigError: it cannot be read, or is not valid; that it names no model or no data is no fault here.
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
    return _built(replace(plan, file=path, file_values=values, own=own))


def with_demo(plan: RunPlan) -> RunPlan:
    """The shipped toy model on the shipped pairs, with the settings that suit them."""
    opened = with_file(replace(plan, own={}), assets.config_file())
    return with_values(
        opened,
        {
            "model_name": str(assets.model_dir()),
            "dataset": str(assets.pairs_file()),
            "eval_dataset": str(assets.heldout_file()),
            "name": "demo",
        },
    )


def with_values(plan: RunPlan, values: Mapping[str, Any]) -> RunPlan:
    """Set some settings; None takes the person's own value back."""
    kept = {name: value for name, value in plan.own.items() if name not in values}
    given = {name: value for name, value in values.items() if value is not None}
    return _built(replace(plan, own={**kept, **given}))


def with_remedy(plan: RunPlan, changes: Mapping[str, Any]) -> RunPlan:
    """Make the changes that advice names, as the person's own; None leaves out what the file sets."""
    return _built(replace(plan, own={**plan.own, **changes}))


def parse(name: str, text: str) -> Any:
    """Read what a person typed for a setting; an empty text is None, which means: not set."""
    text = text.strip()
    if not text:
        return None
    info = fields()[name]
    annotation = str(info.annotation)
    if "list[" in annotation:
        kind = float if "float" in annotation else str
        try:
            return [kind(part.strip()) for part in text.strip("[]").split(",") if part.strip()]
        except ValueError:
            return text
    if choices(info) or info.annotation is str or annotation in ("str | None", "typing.Optional[str]"):
        return text
    try:
        return tomllib.loads(f"value = {text.lower()}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def written(value: Any) -> str:
    """A setting's value as people write it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return plain_number(value) if isinstance(value, float) else str(value)


def _built(plan: RunPlan) -> RunPlan:
    values = {"model_name": UNNAMED, "dataset": UNNAMED, **plan.profile_values, **plan.file_values, **plan.own}
    if "lora_r" in {*plan.own, *plan.file_values} and not {"lora_alpha"} & {*plan.own, *plan.file_values}:
        values.pop("lora_alpha", None)  # left out, alpha follows the rank
    try:
        return replace(plan, config=from_values(values), problems=())
    except InvalidConfigError as error:
        return replace(plan, problems=error.problems)
