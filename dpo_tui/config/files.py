"""Read config files (TOML, JSON, YAML, other tools') into an immutable :class:`Config` with each value's origin."""

import glob
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from dpo_tui.config.dialects.conversion import KeyOutcome
from dpo_tui.config.dialects.registry import dialect_of
from dpo_tui.config.problems import ConfigProblem, InvalidConfigError, from_validation, line_of, unknown_key
from dpo_tui.config.rules import broken_rules
from dpo_tui.config.schema import SECTIONS, Config, fields, section_of
from dpo_tui.errors import ConfigError

Origin = Literal["default", "file", "command line", "profile"]


@dataclass(frozen=True)
class LoadedConfig:
    """A valid config and the origins of its values.

    Attributes:
        config: the settings.
        path: the file it was read from; None for one that was made without a file.
        origins: where each setting that is not a default came from.
        dialect: whose format the file is in, empty for ours.
        key_outcomes: what was done with each key of a foreign file.
    """

    config: Config
    path: Path | None = None
    origins: Mapping[str, Origin] = field(default_factory=dict)
    dialect: str = ""
    key_outcomes: tuple[KeyOutcome, ...] = ()

    def origin(self, name: str) -> Origin:
        """Return where a setting came from."""
        return self.origins.get(name, "default")


def load(path: Path | str, changes: Mapping[str, Any] | None = None) -> LoadedConfig:
    """Read a config file.

    Args:
        path: TOML (tables or flat), JSON (flat or nested by table) or YAML (`trl dpo`).
        changes: settings that override the file, as from ``--set``.

    Raises:
        ConfigError: the file is missing, unreadable or not in its format.
        InvalidConfigError: it can be read, and these are all its problems.
    """
    path = Path(path)
    text = _read(path)
    raw = _parse(path, text)
    values, problems = _flatten(raw)
    dialect = dialect_of(values)
    outcomes: tuple[KeyOutcome, ...] = ()
    if dialect is not None:
        conversion = dialect.convert(values)
        values, outcomes = conversion.values, tuple(conversion.outcomes)
    origins: dict[str, Origin] = dict.fromkeys(values, "file")
    for name, value in (changes or {}).items():
        values[name] = value
        origins[name] = "command line"
    config = _build(values, problems, source=path.name, text=text, given=frozenset(changes or {}))
    return LoadedConfig(config, path, origins, dialect.name if dialect else "", outcomes)


def from_values(values: Mapping[str, Any], source: str = "settings") -> Config:
    """Make a config from flat values.

    Raises:
        InvalidConfigError: with every problem at once.
    """
    return _build(dict(values), [], source=source, text="")


def with_changes(loaded: LoadedConfig, changes: Mapping[str, Any], origin: Origin) -> LoadedConfig:
    """Return a copy with some settings changed.

    Raises:
        InvalidConfigError: the result is not valid.
    """
    values = loaded.config.model_dump() | dict(changes)
    source = loaded.path.name if loaded.path else "settings"
    origins = {**loaded.origins, **dict.fromkeys(changes, origin)}
    return replace(loaded, config=_build(values, [], source=source, text=""), origins=origins)


def local_paths(loaded: LoadedConfig) -> dict[str, Any]:
    """Return the settings that name something on this disk, made absolute.

    Relative ones are tried from the current folder, then from the config file's: the worker may run in another folder.
    """
    folders = [Path.cwd(), *([loaded.path.absolute().parent] if loaded.path else [])]
    found: dict[str, Any] = {}
    for name in ("model_name", "dataset", "eval_dataset", "chat_template"):
        value = getattr(loaded.config, name)
        if isinstance(value, tuple):
            found[name] = tuple(_local_path(one, folders) or one for one in value)
        elif value is not None and (path := _local_path(value, folders)) is not None:
            found[name] = path
    return found


def _local_path(value: str, folders: list[Path]) -> str | None:
    """A path, or a pattern of paths, made absolute by the first folder in which there is one; None for none."""
    for folder in folders:
        candidate = folder / Path(value).expanduser()
        if candidate.exists():
            return str(candidate.resolve())
        if any(sign in value for sign in "*?[") and next(glob.iglob(str(candidate), recursive=True), None) is not None:
            return str(candidate.absolute())
    return None


def parse_assignment(text: str) -> tuple[str, Any]:
    """Read ``KEY=VALUE`` as ``--set`` gives it; the value is TOML where it can be, else plain text.

    Raises:
        ConfigError: there is no ``=``, or no such setting.
    """
    key, separator, value = text.partition("=")
    key = key.strip().rpartition(".")[2]
    if not separator or not key:
        raise ConfigError(f"--set {text}: expected KEY=VALUE", hint="for example: --set learning_rate=1e-6")
    if key not in fields():
        raise InvalidConfigError([unknown_key(key, value)], "--set")
    try:
        return key, tomllib.loads(f"value = {value.strip()}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return key, value.strip()


def _build(
    values: dict[str, Any],
    problems: list[ConfigProblem],
    *,
    source: str,
    text: str,
    given: frozenset[str] = frozenset(),
) -> Config:
    """Validate; ``given`` are the settings that came from the command line, not from the file's ``text``."""
    known = {name: value for name, value in values.items() if name in fields() and value is not None}
    problems = [*problems, *(unknown_key(name, value) for name, value in values.items() if name not in fields())]
    try:
        config = Config(**known)
    except ValidationError as error:
        problems += from_validation(error, known)
    else:
        problems += broken_rules(config)
        if not problems:
            return config
    placed = [
        replace(problem, source="--set") if problem.key in given else replace(problem, line=line_of(problem.key, text))
        for problem in problems
    ]
    raise InvalidConfigError(placed, source) from None


def _flatten(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[ConfigProblem]]:
    """Flatten the tables; a setting in the wrong table is a problem, and so is one that is set twice."""
    values: dict[str, Any] = {}
    problems: list[ConfigProblem] = []
    for key, value in raw.items():
        inner = value.items() if key in SECTIONS and isinstance(value, Mapping) else [(key, value)]
        for name, item in inner:
            if name in values:
                problems.append(ConfigProblem(name, item, f"is set twice, as {values[name]!r} too; keep one"))
            elif inner is not value and name in fields() and key in SECTIONS and section_of(name) != key:
                problems.append(ConfigProblem(name, item, f"belongs in [{section_of(name)}], not in [{key}]"))
            else:
                values[name] = item
    return values, problems


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file", hint="`dpo-tui config init > config.toml` writes one to start from"
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder, not a config file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if not text.strip():
        raise ConfigError(
            f"{path}: the file is empty", hint="`dpo-tui config init > config.toml` writes one to start from"
        )
    return text


def _parse(path: Path, text: str) -> Mapping[str, Any]:
    parser = _PARSERS.get(path.suffix.lower())
    if parser is None:
        known = ", ".join(_PARSERS)
        raise ConfigError(f"{path}: unknown kind of config file", hint=f"dpo-tui reads {known}")
    raw = parser(path, text)
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path}: expected settings by name, found a {type(raw).__name__}")
    return {str(key): value for key, value in raw.items()}


def _parse_toml(path: Path, text: str) -> Any:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def _parse_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from None


def _parse_yaml(path: Path, text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


_PARSERS: dict[str, Callable[[Path, str], Any]] = {
    ".toml": _parse_toml,
    ".json": _parse_json,
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
}
