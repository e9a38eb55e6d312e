"""The config of a run with the remedy of its diagnosis applied, as `dpo-tui config fix` writes it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpo_tui.advice.advice import Advice
from dpo_tui.advice.diagnose import diagnose
from dpo_tui.errors import RunError

_MAX_NAME_LENGTH = 64


def config_with_remedy(folder: Path) -> tuple[Any, Advice]:
    """Return the `Config` of a run with the remedy of its first advice applied, and that advice.

    Further advice is ignored: it is mostly a consequence of the first.

    Args:
        folder: the run folder.

    Raises:
        RunError: nothing is wrong, or no change of settings mends it.
        ConfigError: the run's config cannot be read.
    """
    # Not at the top: `dpo-tui status` reads advice, and must not wait for pydantic.
    from dpo_tui.config.files import load, with_changes

    advice = diagnose(folder)[0]
    if not advice.remedy:
        what = "no setting mends it" if advice.is_problem else "there is nothing to mend"
        raise RunError(f"run {folder.name}: {what}. {advice.message}")
    loaded = load(folder / "config.toml")
    changes = {**advice.remedy, "name": next_name(loaded.config.name or folder.name)}
    return with_changes(loaded, changes, "command line").config, advice


def next_name(name: str) -> str:
    """Return the name of a run's next attempt, numbered so that names differ: ``toy``, ``toy-2``, ``toy-3``."""
    base, count = (found[1], int(found[2])) if (found := re.fullmatch(r"(.+)-(\d{1,3})", name)) else (name, 1)
    suffix = f"-{count + 1}"
    return base[: _MAX_NAME_LENGTH - len(suffix)] + suffix


def remedy_lines(remedy: Mapping[str, Any]) -> list[str]:
    """Write a remedy as lines of TOML; a setting to leave out becomes a comment."""
    import tomli_w

    return [f"# no {name}" if value is None else tomli_w.dumps({name: value}).strip() for name, value in remedy.items()]
