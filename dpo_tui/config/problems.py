"""Problems of a config: all at once, each with its file, line, key, value and bound."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dpo_tui.config.library_fields import peft_fields, trl_fields
from dpo_tui.config.passthrough_names import REFUSED
from dpo_tui.config.same_meaning import LOSS_MEANING, MEANING, SAME_SETTING, nearest
from dpo_tui.config.schema import bounds, choices, fields, section_of
from dpo_tui.errors import ConfigError
from dpo_tui.text.printable import printable

_SIGNS = {"gt": "greater than", "ge": "at least", "lt": "less than", "le": "at most"}


@dataclass(frozen=True)
class ConfigProblem:
    """One problem of a config.

    Attributes:
        key: the setting, or the unknown key as it was written.
        value: the value found; None where there is none.
        message: what is wrong and what would be valid.
        line: where in the file, counted from 1; None where there is no line.
        source: where it was set, if not in the file.
    """

    key: str
    value: Any
    message: str
    line: int | None = None
    source: str = ""

    def describe(self, source: str) -> str:
        """Return the problem as one line that names its place."""
        place = self.source or (f"{source}:{self.line}" if self.line else source)
        found = "" if self.value is None else f" = {printable(repr(self.value), single_line=True)[:80]}"
        return f"{place}: {printable(self.key, single_line=True)}{found}: {self.message}"


class InvalidConfigError(ConfigError):
    """A config has problems; ``problems`` lists them all."""

    def __init__(self, problems: Iterable[ConfigProblem], source: str) -> None:
        self.problems = tuple(problems)
        self.source = source
        count = len(self.problems)
        heading = f"{source}: {count} {'problem' if count == 1 else 'problems'} in the settings"
        super().__init__("\n".join([heading, *(f"  {problem.describe(source)}" for problem in self.problems)]))


def unknown_key(key: str, value: Any) -> ConfigProblem:
    """Describe a key that is no setting, with the setting of the same meaning, or of nearly the same name."""
    return ConfigProblem(
        key, value, f"no such setting; {advice_on(key) or '`dpo-tui config init` lists every setting'}"
    )


def advice_on(key: str) -> str:
    """What to do about a key that is no setting: what stands for it, or what it is a misspelling of; may be empty."""
    if key in MEANING:
        return MEANING[key]
    if key not in SAME_SETTING and (table := table_of_library(key)):
        if key in REFUSED[table]:
            return REFUSED[table][key]
        return f"it is an argument that can be passed on, in [{table}]"
    near = nearest(key, [*fields(), *SAME_SETTING])
    meant = SAME_SETTING.get(near, near)
    return f"did you mean {meant}, in [{section_of(meant)}]?" if meant else ""


def table_of_library(key: str) -> str:
    """The table that passes a key on to TRL or PEFT; empty where the installed ones have no such argument."""
    known = (("trl", trl_fields("DPOConfig")), ("peft", peft_fields()))
    return next((table for table, names in known if names is not None and key in names), "")


def from_validation(error: ValidationError, values: Mapping[str, Any]) -> list[ConfigProblem]:
    """Translate pydantic's errors into problems, one for each setting."""
    problems: dict[str, ConfigProblem] = {}
    for detail in error.errors():
        key = str(detail["loc"][0])
        if key not in problems:
            problems[key] = ConfigProblem(
                key, values.get(key), _message(key, detail["type"], str(detail["msg"]), detail.get("input"))
            )
    return list(problems.values())


def line_of(key: str, text: str) -> int | None:
    """Find the line on which a key is set, in TOML, JSON or YAML; None where it is not found."""
    pattern = re.compile(rf"""^\s*[{{,]?\s*["']?{re.escape(key)}["']?\s*[:=]""")
    for number, line in enumerate(text.splitlines(), start=1):
        if pattern.match(line):
            return number
    return None


def _meant_choice(key: str, found: Any, allowed: tuple[str, ...]) -> str:
    """The end of a message about a value that is none of those allowed; empty where none is meant for certain."""
    if key in {"loss_type", "strategy"} and (meaning := LOSS_MEANING.get(str(found).lower())):
        return f". {found}: {meaning}"
    near = nearest(str(found), allowed)
    return f"; did you mean {near}?" if near else ""


def _message(key: str, kind: str, text: str, found: Any) -> str:
    info = fields()[key]
    if kind == "missing":
        return f"is required, in [{section_of(key)}]"
    if allowed := choices(info):
        return f"must be one of {', '.join(allowed)}{_meant_choice(key, found, allowed)}"
    limits = " and ".join(f"{_SIGNS[sign]} {limit:,.10g}" for sign, limit in bounds(info).items())
    if kind in {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}:
        return f"must be {limits}"
    for marker, noun in (
        ("dict", "a table of arguments, each with its value"),
        ("bool", "true or false"),
        ("int", "a whole number"),
        ("float", "a number"),
        ("finite", "a number"),
    ):
        if kind.startswith(marker):
            return f"must be {noun}{', ' + limits if limits else ''}"
    if kind == "string_pattern_mismatch":
        return f"has the wrong form: {info.description}"
    return text.removeprefix("Value error, ").replace("Input should", "should").replace("String should", "should")
