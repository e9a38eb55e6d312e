"""Names of runs: numbered where one is taken, and changed by the user. Standard library only.

The file ``name`` of a run overrides the name in its state.json, which is the one that the run was created with.
state.json has one writer, the supervisor, so a later name goes into a file of its own.
"""

from collections.abc import Collection

from dpo_tui.errors import RunError, UsageError
from dpo_tui.runs.atomic_files import only_regular, read_json, write_text_atomic
from dpo_tui.runs.contract_version import refuse_newer
from dpo_tui.runs.folder import RunFolder

LONGEST = 64
"""Most characters of a name, as for the setting ``name``."""
_RESERVED = "last"
"""Commands take it for the newest run."""


def given_name(folder: RunFolder) -> str:
    """The name from the file ``name``; empty when the run has not been renamed."""
    try:
        with open(folder.given_name, encoding="utf-8", errors="replace", opener=only_regular) as file:
            return " ".join(file.read(4 * LONGEST).split())[:LONGEST]
    except OSError:
        return ""


def numbered(name: str, taken: Collection[str]) -> str:
    """Return a name for a new run that no other run has: the name itself, or one with a number.

    Args:
        name: what was asked for.
        taken: names of the runs that there are.
    """
    if name not in taken:
        return name
    number = 2
    while (found := f"{name[: LONGEST - len(str(number)) - 1]}-{number}") in taken:
        number += 1
    return found


def rename(folder: RunFolder, name: str) -> str:
    """Give a run another name, whatever its state; it need not be unique.

    Returns:
        The name as it is stored: whitespace collapsed, on one line.

    Raises:
        UsageError: the name is empty, too long, or ``last``, which commands take for the newest run.
        RunError: the run is gone, of a newer version, or the file cannot be written.
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
    refuse_newer(read_json(folder.state), folder.id)
    try:
        write_text_atomic(folder.given_name, f"{name}\n")
    except OSError as error:
        raise RunError(f"cannot rename run {folder.id}: {error.strerror or error}") from error
    return name
