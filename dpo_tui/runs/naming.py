"""A run's name: what it was made with, or what somebody called it since. Standard library only.

The name that a run was made with is in ``state.json``, which has one writer, its supervisor; so a new name goes into a
file of its own, ``name``, and outranks it.
"""

from dpo_tui.errors import RunError, UsageError
from dpo_tui.runs.atomic_files import write_text_atomic
from dpo_tui.runs.folder import RunFolder

LONGEST = 64
"""Characters of a name, as many as the setting ``name`` takes."""
_RESERVED = "last"


def given_name(folder: RunFolder) -> str:
    """What a run was called since it was made; empty when nobody renamed it."""
    try:
        with open(folder.given_name, encoding="utf-8", errors="replace") as file:
            return " ".join(file.read(4 * LONGEST).split())[:LONGEST]
    except OSError:
        return ""


def rename(folder: RunFolder, name: str) -> str:
    """Call a run by another name from now on, whatever its state; it need not be unique.

    Returns:
        The name as it is kept: on one line.

    Raises:
        UsageError: no name, one that is too long, or ``last``, which stands for the newest run.
        RunError: the disk refused.
    """
    name = " ".join(name.split())
    if not name:
        raise UsageError("a run needs a name of one character or more")
    if len(name) > LONGEST:
        raise UsageError(f"the name has {len(name)} characters; {LONGEST} are the most")
    if name == _RESERVED:
        raise UsageError(f"{name!r} cannot be a name: commands take it for the newest run")
    if not folder.path.is_dir():
        raise RunError(f"run {folder.id} is gone")
    try:
        write_text_atomic(folder.given_name, f"{name}\n")
    except OSError as error:
        raise RunError(f"cannot rename run {folder.id}: {error.strerror or error}") from error
    return name
