"""A remedy made into a config: the settings of a run with what the diagnosis says changed."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpo_tui.advice.advice import Advice
from dpo_tui.advice.diagnose import diagnose
from dpo_tui.errors import RunError

_LONGEST_NAME = 64


def remedied(folder: Path) -> tuple[Any, Advice]:
    """Return the `Config` of a run with the first diagnosis' remedy worked in, and that advice.

    Only the first diagnosis counts: the others are mostly its consequences.

    Args:
        folder: of the run.

    Raises:
        RunError: nothing is wrong, or what is wrong is no setting.
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
    """Return the name of a run's next try, so that both can be told apart: ``toy``, ``toy-2``, ``toy-3``."""
    base, count = (found[1], int(found[2])) if (found := re.fullmatch(r"(.+)-(\d{1,3})", name)) else (name, 1)
    ending = f"-{count + 1}"
    return base[: _LONGEST_NAME - len(ending)] + ending


def remedy_lines(remedy: Mapping[str, Any]) -> list[str]:
    """Say a remedy as lines of a config; a setting that is to be left out is a comment."""
    import tomli_w

    return [f"# no {name}" if value is None else tomli_w.dumps({name: value}).strip() for name, value in remedy.items()]
