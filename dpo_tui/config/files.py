"""Read config files (TOML, JSON, YAML, other tools') into an immutable :class:`Config` with each value's origin.

A setting is declared, with its bounds, in the module of its table under :mod:`dpo_tui.config.sections`; files of other
tools become such settings first (:mod:`dpo_tui.config.foreign_files`). Next: :mod:`dpo_tui.start.prepare`.
"""

import glob
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from dpo_tui.config.dialects.conversion import UNDECIDED, KeyOutcome
from dpo_tui.config.dialects.registry import Dialect, dialect_of
from dpo_tui.config.foreign_files import (
    ConvertedFile,
    convert_foreign,
    settings_of,
    undecided_problems,
    undecided_table,
)
from dpo_tui.config.problems import ConfigProblem, InvalidConfigError, line_of, unknown_key
from dpo_tui.config.schema import PASSTHROUGH, SECTIONS, Config, fields, section_of
from dpo_tui.config.validation import validate, with_newer, without_old_defaults
from dpo_tui.errors import ConfigError
from dpo_tui.paths import expanded
from dpo_tui.text.plain_documents import parse_toml, require_plain, yaml_loader
from dpo_tui.text.whole_file import read_whole_text

Origin = Literal["default", "file", "command line", "profile"]
_MOST = 1 << 20
"""Bytes of a config; PyYAML takes some ten seconds for that many."""
_MOST_VALUES = 100_000
_MOST_SETTINGS = 500


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
        """Return where a setting, or an argument in a passthrough table such as ``trl.NAME``, came from."""
        return self.origins.get(name) or self.origins.get(name.partition(".")[0], "default")


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
    text, raw = _read_mapping(path)
    dialect = _dialect_of(raw)
    if dialect is None:
        values, problems = _flatten(raw)
        problems += _both_warmups(values, changes or {})
        outcomes: tuple[KeyOutcome, ...] = ()
    else:
        converted = convert_foreign(dialect, raw, path.parent)
        values, problems, outcomes = settings_of(converted), undecided_problems(converted), converted.outcomes
    origins: dict[str, Origin] = dict.fromkeys(values, "file")
    values = with_newer(values, changes or {})
    origins |= dict.fromkeys(changes or {}, "command line")
    config = _build(values, problems, source=path.name, text=text, given=frozenset(changes or {}))
    return LoadedConfig(config, path, origins, dialect.name if dialect else "", outcomes)


def convert(path: Path | str) -> ConvertedFile:
    """Read a config file of another tool, whatever is wrong in it: its problems are outcomes of its keys.

    A file of ours is read as by :func:`load`, and converted as it is.

    Raises:
        ConfigError: the file is missing, unreadable, not in its format, or configures no training.
        InvalidConfigError: it is a file of ours and is not valid.
    """
    path = Path(path)
    _, raw = _read_mapping(path)
    dialect = _dialect_of(raw)
    if dialect is None:
        return ConvertedFile(load(path).config, (), "", frozenset())
    return convert_foreign(dialect, raw, path.parent)


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
    before = loaded.config.model_dump()
    values = with_newer(without_old_defaults(before, changes.get("strategy") or loaded.config.strategy), changes)
    source = loaded.path.name if loaded.path else "settings"
    origins = {**loaded.origins, **dict.fromkeys(changes, origin)}
    return replace(loaded, config=_build(values, [], source=source, text=""), origins=origins)


def local_paths(loaded: LoadedConfig) -> dict[str, Any]:
    """Return the settings that name something on this disk, made absolute.

    Relative ones are tried from the current folder, then from the config file's: the worker may run in another folder.
    """
    folders = [Path.cwd(), *([loaded.path.absolute().parent] if loaded.path else [])]
    found: dict[str, Any] = {}
    for name in ("model_name", "ref_model", "ref_adapter", "dataset", "eval_dataset", "chat_template"):
        value = getattr(loaded.config, name)
        if isinstance(value, tuple):
            found[name] = tuple(_local_path(one, folders) or one for one in value)
        elif value is not None and (path := _local_path(value, folders)) is not None:
            found[name] = path
    return found


def _local_path(value: str, folders: list[Path]) -> str | None:
    """A path, or a pattern of paths, made absolute by the first folder in which there is one; None for none."""
    for folder in folders:
        candidate = folder / expanded(value)
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
    key, value = parse_setting(text, "--set", "learning_rate=1e-6")
    try:
        return key, parse_toml(f"value = {value}")["value"]
    except ValueError:
        return key, value


def parse_setting(text: str, option: str, example: str) -> tuple[str, str]:
    """Split ``KEY=TEXT`` of an option of the command line; the key is that of a setting, with or without its table.

    ``trl.NAME, ``peft.NAME`` and ``model_init.NAME`` are arguments in the tables of these names.

    Raises:
        ConfigError: there is no ``=``, no such setting, or the setting is in another table.
    """
    whole, separator, value = text.partition("=")
    key = whole = whole.strip()
    table, _, argument = key.partition(".")
    passed_on = table in PASSTHROUGH and bool(argument)
    if not passed_on:
        table, _, key = key.rpartition(".")
    if not separator or not key:
        raise ConfigError(f"{option} {text}: expected KEY=VALUE", hint=f"for example: {option} {example}")
    if key not in fields() and not passed_on:
        raise InvalidConfigError([unknown_key(key, value)], option)
    if not passed_on and table not in ("", section_of(key)):
        problem = ConfigProblem(whole, value.strip(), f"belongs in [{section_of(key)}]: {option} {key}={value.strip()}")
        raise InvalidConfigError([problem], option)
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
    result = validate(values)
    if isinstance(result, Config):
        if not problems:
            return result
    else:
        problems = [*problems, *result]
    placed = [
        replace(problem, source="--set") if problem.key in given else replace(problem, line=line_of(problem.key, text))
        for problem in problems
    ]
    raise InvalidConfigError(placed, source)


def _flatten(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[ConfigProblem]]:
    """Flatten the tables; a setting in the wrong table is a problem, and so is one that is set twice."""
    values: dict[str, Any] = {}
    problems: list[ConfigProblem] = []
    for key, value in raw.items():
        if key == UNDECIDED:
            problems += undecided_table(value)
            continue
        table = key in SECTIONS and key not in PASSTHROUGH and isinstance(value, Mapping)
        inner = value.items() if table else [(key, value)]
        for name, item in inner:
            if name in values:
                problems.append(ConfigProblem(name, item, f"is set twice, as {values[name]!r} too; keep one"))
            elif inner is not value and name in fields() and key in SECTIONS and section_of(name) != key:
                problems.append(ConfigProblem(name, item, f"belongs in [{section_of(name)}], not in [{key}]"))
            else:
                values[name] = item
    return values, problems


def _both_warmups(values: Mapping[str, Any], changes: Mapping[str, Any]) -> list[ConfigProblem]:
    """A file with both forms of the warm-up is ambiguous; on the command line the one given there wins."""
    names = {"warmup_steps", "warmup_ratio"}
    if names & changes.keys() or any(values.get(name) is None for name in names):
        return []
    return [ConfigProblem("warmup_steps", values["warmup_steps"], "warmup_ratio is set too; keep one of them")]


def _dialect_of(raw: Mapping[str, Any]) -> Dialect | None:
    # Tables of ours are no keys of another tool, although AutoTrain and others have tables of the same names.
    return None if UNDECIDED in raw else dialect_of(raw)


def _read_mapping(path: Path) -> tuple[str, Mapping[str, Any]]:
    text = _read(path)
    return text, _parse(path, text)


def _read(path: Path) -> str:
    try:
        text = read_whole_text(path, _MOST, encoding="utf-8-sig")
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
    count = len(raw) + sum(len(table) for table in raw.values() if isinstance(table, Mapping))
    if count > _MOST_SETTINGS:  # what is meant by each is looked for among all names, and the line that it is on
        raise ConfigError(f"{path}: has {count:,} settings, and no config has more than {_MOST_SETTINGS:,}")
    try:
        require_plain(raw)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    named: dict[str, Any] = _with_names(raw)
    return named


def _with_names(value: Any) -> Any:
    """A document whose tables have texts as names: in YAML, ``1: a`` and ``on: a`` have a number and true."""
    if isinstance(value, dict):
        return {str(key): _with_names(item) for key, item in value.items()}
    return [_with_names(item) for item in value] if isinstance(value, list) else value


def _parse_toml(path: Path, text: str) -> Any:
    try:
        return parse_toml(text)
    except ValueError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def _parse_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _without_repeats(path, pairs))
    except json.JSONDecodeError as error:
        place = _place(path, error.lineno - 1, error.colno - 1)
        raise ConfigError(f"{place}: not valid JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from None


def _without_repeats(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a table of its keys and values; of two values for one key, parsers would keep the last without a word."""
    names = [name for name, _ in pairs]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ConfigError(f"{path}: {twice} occurs twice in one table", hint="keep one of them")
    return dict(pairs)


def _parse_yaml(path: Path, text: str) -> Any:
    import yaml

    class Loader(yaml_loader()):  # type: ignore[misc]
        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            _without_repeats(path, [(key.value, None) for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
            return node

    try:
        loader = Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _require_few(path, node)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        what = ", ".join(part for part in (error.context, error.problem) if part)
        mark = error.problem_mark or error.context_mark
        raise ConfigError(f"{_place(path, mark.line, mark.column) if mark else path}: not valid YAML: {what}") from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position].split("\n")
        place = _place(path, len(before) - 1, len(before[-1]))
        raise ConfigError(f"{place}: not valid YAML: the character U+{ord(text[error.position]):04X}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def _require_few(path: Path, root: Any) -> None:
    """Refuse a document whose aliases repeat aliases: ten lines of them can stand for billions of values."""
    counted: dict[int, float] = {}

    def count(node: Any) -> float:
        if id(node) not in counted:
            counted[id(node)] = math.inf  # of a node that holds itself
            items = node.value if isinstance(node.value, list) else []
            parts = [part for item in items for part in (item if isinstance(item, tuple) else (item,))]
            counted[id(node)] = 1 + sum(map(count, parts))
        return counted[id(node)]

    if count(root) > _MOST_VALUES:
        raise ConfigError(
            f"{path}: its aliases (*name) stand for more than {_MOST_VALUES:,} values, or for themselves",
            hint="write out what is meant",
        )


def _place(path: Path, line: int, column: int) -> str:
    """A position in a file; ``line`` and ``column`` count from 0, and are named from 1, as editors do."""
    return f"{path}:{line + 1}, column {column + 1}"


_PARSERS: dict[str, Callable[[Path, str], Any]] = {
    ".toml": _parse_toml,
    ".json": _parse_json,
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
}
