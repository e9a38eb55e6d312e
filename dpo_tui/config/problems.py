"""Problems of a config: all at once, each with its file, line, key, value and bound."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dpo_tui.config.schema import bounds, choices, fields, section_of
from dpo_tui.errors import ConfigError
from dpo_tui.text.printable import printable

_SIGNS = {"gt": "greater than", "ge": "at least", "lt": "less than", "le": "at most"}
# Names that other tools use for the same thing, for the did-you-mean on unknown keys.
KNOWN_ELSEWHERE = {
    "model_name_or_path": "model_name",
    "base_model": "model_name",
    "model": "model_name",
    "dataset_name": "dataset",
    "max_length": "max_seq_length",
    "cutoff_len": "max_seq_length",
    "sequence_len": "max_seq_length",
    "max_prompt_length": "max_seq_length",
    "load_in_4bit": "use_4bit",
    "pref_beta": "beta",
    "lr": "learning_rate",
    "epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
    "lora_rank": "lora_r",
    "warmup_steps": "warmup_ratio",
}


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
    """Describe a key that is no setting, with the nearest name that is."""
    meant = KNOWN_ELSEWHERE.get(key) or next(iter(difflib.get_close_matches(key, fields(), n=1, cutoff=0.6)), None)
    advice = (
        f"did you mean {meant}, in [{section_of(meant)}]?" if meant else "`dpo-tui config init` lists every setting"
    )
    return ConfigProblem(key, value, f"no such setting; {advice}")


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


def _message(key: str, kind: str, text: str, found: Any) -> str:
    info = fields()[key]
    if kind == "missing":
        return f"is required, in [{section_of(key)}]"
    if allowed := choices(info):
        near = difflib.get_close_matches(str(found), allowed, n=1)
        guess = f"; did you mean {near[0]}?" if near else ""
        return f"must be one of {', '.join(allowed)}{guess}"
    limits = " and ".join(f"{_SIGNS[sign]} {limit:,.10g}" for sign, limit in bounds(info).items())
    if kind in {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}:
        return f"must be {limits}"
    for marker, noun in (
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
