"""Convert config files of other tools: always to a valid config, and the keys that need a decision beside it.

`dpo-tui train` and `config check` refuse a file in which a key needs a decision; `config convert` writes these keys
into the table ``[undecided]``, and a run does not start while there are any.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpo_tui.config.dialects.conversion import UNDECIDED, Conversion, KeyOutcome
from dpo_tui.config.dialects.interval_keys import drop_evaluation_without_rows
from dpo_tui.config.dialects.registry import Dialect
from dpo_tui.config.problems import ConfigProblem
from dpo_tui.config.schema import PASSTHROUGH, Config
from dpo_tui.config.toml_text import inline, key_text, to_toml
from dpo_tui.config.validation import validate
from dpo_tui.text.printable import printable

_PLACEHOLDER = "-"
_REQUIRED = ("model_name", "dataset")


@dataclass(frozen=True)
class ConvertedFile:
    """A foreign file in our format.

    Attributes:
        config: its settings; a required one that the file lacks is a placeholder, and listed in ``missing``.
        outcomes: of every key of the file.
        dialect: name of the tool.
        missing: required settings that the file does not have.
    """

    config: Config
    outcomes: tuple[KeyOutcome, ...]
    dialect: str
    missing: frozenset[str]

    @property
    def undecided(self) -> tuple[KeyOutcome, ...]:
        """The keys that need a decision."""
        return tuple(row for row in self.outcomes if row.outcome == "undecided")

    def to_toml(self) -> str:
        """Return the file's text: the config, and the undecided keys in a table of their own."""
        text = to_toml(self.config, omit=self.missing)
        if not self.undecided:
            return text
        lines = [f"[{UNDECIDED}]", "# A run starts when nothing is left here: decide, and remove the lines."]
        for row in self.undecided:
            lines.append(f"# {printable(row.why, single_line=True)}")
            lines.append(f"{key_text(row.key)} = {inline(_writable(row.value))}")
        return text + "\n" + "\n".join(lines) + "\n"


def convert_foreign(dialect: Dialect, raw: Mapping[str, Any], folder: Path) -> ConvertedFile:
    """Convert a file of another tool.

    Args:
        dialect: that recognises it.
        raw: the file, parsed.
        folder: of the file, from which the names of other files in it are tried too.

    Raises:
        ConfigError: the file is not a config of a training at all, such as one of DeepSpeed.
    """
    conversion = dialect.convert(raw, folder)
    drop_evaluation_without_rows(conversion)
    config, missing = _settle(conversion)
    return ConvertedFile(config, tuple(conversion.outcomes), dialect.name, missing)


def undecided_problems(converted: ConvertedFile) -> list[ConfigProblem]:
    """Return a problem for every key that needs a decision."""
    return [ConfigProblem(row.key, row.value, row.why) for row in converted.undecided]


def undecided_table(table: Any) -> list[ConfigProblem]:
    """Return a problem for every key in the table ``[undecided]`` of a file that `config convert` wrote."""
    rows = table.items() if isinstance(table, Mapping) else [(UNDECIDED, table)]
    message = "was carried over from another tool's file and needs a decision: see the comment above it, then remove it"
    return [ConfigProblem(str(key), value, message) for key, value in rows]


def _settle(conversion: Conversion) -> tuple[Config, frozenset[str]]:
    """Build the config; a value that is not valid here, alone or with the others, becomes undecided."""
    missing = frozenset(name for name in _REQUIRED if conversion.values.get(name) in (None, ""))
    while True:
        result = validate({**conversion.values, **dict.fromkeys(missing, _PLACEHOLDER)})
        if isinstance(result, Config):
            return result, missing
        problem = result[0]
        name = _culprit(conversion, problem, missing)
        if name in _REQUIRED:
            missing |= {name}
        _leave_undecided(conversion, name, problem)


def _culprit(conversion: Conversion, problem: ConfigProblem, missing: frozenset[str]) -> str:
    """The setting to take out: the one that the problem names, else one without which there is no such problem."""
    if problem.key in conversion.values:
        return problem.key
    for name in [name for name in conversion.values if name not in _REQUIRED]:
        rest = {key: value for key, value in conversion.values.items() if key != name}
        result = validate({**rest, **dict.fromkeys(missing, _PLACEHOLDER)})
        if isinstance(result, Config) or all(other.key != problem.key for other in result):
            return name
    raise AssertionError(f"no setting explains {problem}")  # the defaults alone are valid


def _leave_undecided(conversion: Conversion, name: str, problem: ConfigProblem) -> None:
    value = conversion.values.pop(name)
    because = problem.message if problem.key == name else f"{problem.key}: {problem.message}"
    rows = [index for index, row in enumerate(conversion.outcomes) if row.to.partition(".")[0] == name]
    for index in rows:
        row = conversion.outcomes[index]
        own = row.value if row.value is not None else value
        conversion.outcomes[index] = replace(row, outcome="undecided", to="", why=because, value=own)
    if not rows:
        conversion.outcomes.append(KeyOutcome(name, "undecided", "", because, value))


def _writable(value: Any) -> Any:
    """A value as TOML can hold it: what it cannot, as text."""
    if isinstance(value, Mapping):
        return {str(key): _writable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(item) for item in value]
    return value if isinstance(value, str | bool | int | float) else str(value)


def settings_of(converted: ConvertedFile) -> dict[str, Any]:
    """Return the settings that the file sets, by name, those of the other tool's defaults included."""
    named = {row.to.partition(".")[0] for row in converted.outcomes if row.to}
    default = validate(dict.fromkeys(_REQUIRED, _PLACEHOLDER))
    values = converted.config.model_dump()
    changed = {name for name, value in values.items() if value != getattr(default, name)}
    kept = (named | changed) - converted.missing
    return {name: value for name, value in values.items() if name in kept and not (name in PASSTHROUGH and not value)}
