"""The user's settings (``settings.toml``): theme, keys, notifications. Lines that are not valid are skipped."""

from collections.abc import MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dpo_tui import paths
from dpo_tui.errors import ConfigError
from dpo_tui.runs.atomic_files import write_text_atomic
from dpo_tui.text.plain_documents import parse_toml
from dpo_tui.text.whole_file import read_whole_text


@dataclass(frozen=True)
class UserSettings:
    """The settings of the app; the config of a run is `dpo_tui.config.schema.Config`.

    Attributes:
        theme: name of a theme; None chooses one for the terminal.
        ascii: whether to draw in ASCII; None decides by the locale.
        keys: comma-separated keys by binding id, in place of the default ones.
        bell: whether to ring the terminal bell when a run ends or stalls.
        desktop: whether to send a desktop notification (OSC 9) then.
        webhook: URL that receives a JSON POST then.
        problems: why lines of the file were skipped.
    """

    theme: str | None = None
    ascii: bool | None = None
    keys: dict[str, str] = field(default_factory=dict)
    bell: bool = True
    desktop: bool = False
    webhook: str | None = None
    problems: tuple[str, ...] = ()


def load(path: Path | None = None) -> UserSettings:
    """Read ``settings.toml``; a missing file gives the defaults."""
    path = path or paths.settings()
    try:
        raw = parse_toml(read_whole_text(path))
    except FileNotFoundError:
        return UserSettings()
    except (OSError, ValueError) as error:
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
            problems.append(f"{path}: {key} must be {_TYPE_NAMES[kind]}")
    if (wrong := webhook_problem(chosen.get("webhook", ""))) is not None:
        problems.append(f"{path}: nothing will be sent to the webhook: {wrong}")
    return replace(UserSettings(**chosen), problems=tuple(problems))


def webhook_problem(url: str) -> str | None:
    """Why nothing would be sent to a webhook; None where something would, and where there is none."""
    if not url:
        return None
    from dpo_tui.http_post import check_address  # the HTTP client takes 0.1 s to load

    try:
        check_address(url)
    except ValueError as error:
        return str(error)
    return None


def save(settings: UserSettings, path: Path | None = None) -> None:
    """Write what the settings screen can change into ``settings.toml``, readable by its owner only.

    The file is the user's too: its comments, its ``keys`` and what this version does not know stay as they are.

    Raises:
        ConfigError: the file that is there is not TOML; it is left alone, since whatever it holds would be lost.
        OSError: it cannot be read or written.
    """
    import tomlkit  # slow to load, and the app's first picture does not need it

    path = path or paths.settings()
    paths.make_private(path.parent)
    try:
        text = read_whole_text(path)
        parse_toml(text)  # what the app could not read is not written over
        document = tomlkit.parse(text)
    except FileNotFoundError:
        document = tomlkit.document()
    except ValueError as error:  # of TOML, or of UTF-8
        raise ConfigError(
            f"{path}: cannot be read: {error}",
            hint="It is left as it is, and nothing was saved: mend it, or move it away.",
        ) from error
    _put(document, "theme", settings.theme)
    _put(document, "ascii", settings.ascii)
    if "keys" not in document and settings.keys:
        document["keys"] = settings.keys
    notify = document.get("notify")
    if not isinstance(notify, MutableMapping):
        notify = document["notify"] = tomlkit.table()
    _put(notify, "bell", settings.bell)
    _put(notify, "desktop", settings.desktop)
    _put(notify, "webhook", settings.webhook or None)
    write_text_atomic(path, tomlkit.dumps(document))
    path.chmod(0o600)


def _put(table: MutableMapping[str, Any], key: str, value: Any) -> None:
    if value is None:
        table.pop(key, None)
    elif table.get(key) != value:  # an equal value keeps its spelling and its comment
        table[key] = value


_KINDS: dict[str, type] = {
    "theme": str,
    "ascii": bool,
    "keys": dict,
    "bell": bool,
    "desktop": bool,
    "webhook": str,
}
_TYPE_NAMES: dict[type, str] = {str: "text", bool: "true or false", dict: "a table"}


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
