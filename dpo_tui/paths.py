"""Locations on disk, all below the home folder. Standard library only: the supervisor uses it too."""

import errno
import os
from pathlib import Path

from dpo_tui.errors import HomeError

_NO_ACCESS = (errno.EACCES, errno.EPERM)
_ELSEWHERE = "export DPO_TUI_HOME=/a/writable/disk/dpo-tui"


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with ``~`` and ``~user`` replaced by home folders.

    For a user that does not exist, or has no home folder, `pathlib.Path.expanduser` raises RuntimeError. Here such a
    path stays as it was written, and is then missing like any other.
    """
    return Path(os.path.expanduser(path))


def home() -> Path:
    """The home folder, in which dpo-tui keeps everything.

    ``$DPO_TUI_HOME``, else ``$XDG_DATA_HOME/dpo-tui``, else ``~/.local/share/dpo-tui``.

    Raises:
        HomeError: it lies below ``~``, and this user has no home folder: ``HOME`` is not set, as in a job or container
            without a login, and the user database has none.
    """
    if explicit := os.environ.get("DPO_TUI_HOME"):
        folder = expanded(explicit)
    elif data_home := os.environ.get("XDG_DATA_HOME"):
        folder = expanded(data_home) / "dpo-tui"
    else:
        folder = expanded("~") / ".local" / "share" / "dpo-tui"
    if str(folder).startswith("~"):
        raise HomeError(
            f"there is no home folder {folder.parts[0]}: HOME is not set, or no such user is known here",
            hint=f"Set HOME, or: {_ELSEWHERE}",
        )
    return folder.absolute()


def home_error(what: str, error: OSError) -> HomeError:
    """The error for a folder below the home that cannot be read or written, with what to set.

    Args:
        what: could not be done, and where: "cannot read the runs in /root/runs".
        error: the reason.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = f"Free some space there, or keep everything elsewhere: {_ELSEWHERE}"
    elif error.errno in _NO_ACCESS and os.geteuid() == 0:
        hint = f"A network disk may take root for nobody (root_squash); elsewhere: {_ELSEWHERE}"
    else:
        hint = f"Keep everything elsewhere: {_ELSEWHERE}"
    return HomeError(f"{what}: {error.strerror or error}", hint=hint)


def make_private(folder: Path) -> None:
    """Make a folder and what is missing above it, open to this user alone under any umask.

    `Path.mkdir` gives its mode to the last folder only; those above it would be as open as the umask leaves them.

    Raises:
        OSError: it cannot be made.
    """
    missing = [folder]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)


def is_private(path: Path) -> bool:
    """Whether a path lies below the home folder, where all files are this user's alone."""
    try:
        return path.is_relative_to(home())
    except HomeError:
        return False


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
