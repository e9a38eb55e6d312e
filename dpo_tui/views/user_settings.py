"""The person's own settings (settings.toml): theme, keys, notifications. A mistake in it costs that line only."""

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli_w

from dpo_tui import paths
from dpo_tui.runs.atomic_files import write_text_atomic


@dataclass(frozen=True)
class UserSettings:
    """What a person chose.

    Attributes:
        theme: a theme's name; None picks one that suits the terminal.
        ascii: draw in ASCII, whatever the locale says.
        keys: binding id → keys, comma-separated, in place of the usual ones.
        bell: ring the terminal's bell when a watched run ends.
        desktop: ask the terminal for a desktop notice (OSC 9) then.
        webhook: a URL that receives a JSON POST then.
        problems: lines of the file that were passed over, in words.
    """

    theme: str | None = None
    ascii: bool | None = None
    keys: dict[str, str] = field(default_factory=dict)
    bell: bool = True
    desktop: bool = False
    webhook: str | None = None
    problems: tuple[str, ...] = ()


def load(path: Path | None = None) -> UserSettings:
    """Read settings.toml; a missing file is the usual settings."""
    path = path or paths.settings()
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return UserSettings()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return UserSettings(problems=(f"{path}: cannot be read: {error}",))
    problems: list[str] = []
    chosen: dict[str, Any] = {}
    flat = {**raw, **_table(raw, "notify", path, problems)}
    flat.pop("notify", None)
    for key, value in flat.items():
        kind = _KINDS.get(key)
        if kind is None:
            problems.append(f"{path}: there is no setting {key!r}")
        elif key == "keys":
            chosen["keys"] = _keys(value, path, problems)
        elif isinstance(value, kind):
            chosen[key] = value
        else:
            problems.append(f"{path}: {key} must be {_WORDS[kind]}")
    return replace(UserSettings(**chosen), problems=tuple(problems))


def save(settings: UserSettings, path: Path | None = None) -> None:
    """Write settings.toml, readable by its owner only.

    Raises:
        OSError: it cannot be written.
    """
    path = path or paths.settings()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    document: dict[str, Any] = {}
    if settings.theme is not None:
        document["theme"] = settings.theme
    if settings.ascii is not None:
        document["ascii"] = settings.ascii
    if settings.keys:
        document["keys"] = settings.keys
    document["notify"] = {"bell": settings.bell, "desktop": settings.desktop}
    if settings.webhook:
        document["notify"]["webhook"] = settings.webhook
    write_text_atomic(path, tomli_w.dumps(document))
    path.chmod(0o600)


_KINDS: dict[str, type] = {
    "theme": str,
    "ascii": bool,
    "keys": dict,
    "bell": bool,
    "desktop": bool,
    "webhook": str,
}
_WORDS: dict[type, str] = {str: "text", bool: "true or false", dict: "a table"}


def _table(raw: dict[str, Any], key: str, path: Path, problems: list[str]) -> dict[str, Any]:
    found = raw.get(key, {})
    if isinstance(found, dict):
        return found
    problems.append(f"{path}: {key} must be a table")
    return {}


def _keys(value: Any, path: Path, problems: list[str]) -> dict[str, str]:
    if not isinstance(value, dict):
        problems.append(f"{path}: keys must be a table of binding = keys")
        return {}
    good = {}
    for name, keys in value.items():
        if isinstance(keys, str):
            good[str(name)] = keys
        elif isinstance(keys, dict):
            # TOML reads chart.log = "y" under [keys] as a nested table.
            good |= {f"{name}.{inner}": text for inner, text in keys.items() if isinstance(text, str)}
        else:
            problems.append(f"{path}: keys.{name} must be text such as 'y' or 'y,ctrl+y'")
    return good
