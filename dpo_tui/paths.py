"""Where everything lives. Standard library only: the supervisor uses it too."""

import os
from pathlib import Path


def home() -> Path:
    """The folder for all that dpo-tui keeps.

    ``$DPO_TUI_HOME``, else ``$XDG_DATA_HOME/dpo-tui``, else ``~/.local/share/dpo-tui``.
    """
    if explicit := os.environ.get("DPO_TUI_HOME"):
        return Path(explicit).expanduser().absolute()
    if data_home := os.environ.get("XDG_DATA_HOME"):
        return Path(data_home).expanduser().absolute() / "dpo-tui"
    return Path.home() / ".local" / "share" / "dpo-tui"


def runs() -> Path:
    """One folder a run."""
    return home() / "runs"


def cache() -> Path:
    """What can be computed again: dataset indexes, reference log-probabilities, tokenised rows."""
    return home() / "cache"


def locks() -> Path:
    """Lock files that are not a run's own."""
    return home() / "locks"


def settings() -> Path:
    """The person's own settings: theme, keys, notifications."""
    return home() / "settings.toml"


def themes() -> Path:
    """The person's own themes."""
    return home() / "themes"


def environments() -> Path:
    """Separate Python environments, such as the one that the provider ``unsloth`` needs."""
    return home() / "environments"
