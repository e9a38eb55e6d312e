"""Locations on disk, all below the home folder. Standard library only: the supervisor uses it too."""

import os
from pathlib import Path


def home() -> Path:
    """The home folder, in which dpo-tui keeps everything.

    ``$DPO_TUI_HOME``, else ``$XDG_DATA_HOME/dpo-tui``, else ``~/.local/share/dpo-tui``.
    """
    if explicit := os.environ.get("DPO_TUI_HOME"):
        return Path(explicit).expanduser().absolute()
    if data_home := os.environ.get("XDG_DATA_HOME"):
        return Path(data_home).expanduser().absolute() / "dpo-tui"
    return Path.home() / ".local" / "share" / "dpo-tui"


def runs() -> Path:
    """The folder of all runs, one subfolder each."""
    return home() / "runs"


def cache() -> Path:
    """Files that can be computed again: dataset indexes, reference log-probabilities, tokenised rows."""
    return home() / "cache"


def settings() -> Path:
    """The user's settings of the app: theme, keys, notifications."""
    return home() / "settings.toml"


def memory_overheads() -> Path:
    """Measured overheads of GPU memory, which the estimate uses in place of assumed ones."""
    return home() / "memory_overheads.toml"


def trusted_code() -> Path:
    """Digests of the code of models that the user has allowed to run."""
    return home() / "trusted-code.json"


def themes() -> Path:
    """The user's own themes."""
    return home() / "themes"


def environments() -> Path:
    """Separate Python environments, such as the one that the provider ``unsloth`` needs."""
    return home() / "environments"
