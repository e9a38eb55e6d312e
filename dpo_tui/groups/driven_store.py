"""The folder of all groups, or of all improvements: create, list, find and remove what a driver drives.

Standard library only.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from dpo_tui import paths
from dpo_tui.errors import RunError
from dpo_tui.groups.driven_folder import DrivenFolder
from dpo_tui.runs import run_lock
from dpo_tui.runs.atomic_files import fsync_folder, read_json
from dpo_tui.runs.folder_removal import delete_folder, delete_leftovers
from dpo_tui.runs.store import is_id, new_id

Folder = TypeVar("Folder", bound=DrivenFolder)


def create_folder(home: Path, what: str, fill: Callable[[Path, str, float], None], others: Sequence[Path]) -> Path:
    """Make a folder with an id of its own; nobody sees it before it is whole.

    Args:
        home: the folder that it is made in.
        what: what it is, for errors: ``a group``.
        fill: writes its files into a folder that exists, given its id and the present Unix time.
        others: further folders in which the id must be free, since commands take it for either.

    Raises:
        HomeError: the home folder cannot be written.
    """
    try:
        paths.make_private(home)
        delete_leftovers(home, _is_driven)
        while True:
            now = time.time()
            name = new_id(now)
            draft = home / f".creating-{name}"
            try:
                draft.mkdir(mode=0o700)
            except FileExistsError:
                continue  # another process makes one in the same moment
            try:
                fill(draft, name, now)
                if any((place / name).exists() for place in (home, *others)):
                    continue
                # Renamed when it is whole: nobody sees half of a plan.
                os.rename(draft, home / name)
                fsync_folder(home)
                return home / name
            finally:
                delete_folder(draft, _is_driven, ignore_errors=True)
    except OSError as error:
        raise paths.home_error(f"cannot make {what} under {home}", error) from error


def folders_in(home: Path, what: str) -> list[Path]:
    """Return the folders with an id, newest first; a missing home has none.

    Args:
        home: the folder that they are in.
        what: what they are, for errors: ``groups``.

    Raises:
        HomeError: the home folder cannot be read.
    """
    try:
        with os.scandir(home) as entries:
            names = [entry.name for entry in entries if is_id(entry.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise paths.home_error(f"cannot read the {what} in {home}", error) from error
    return [home / name for name in sorted(names, reverse=True)]


def name_in_plan(folder: DrivenFolder) -> str:
    """The name that the user gave it; empty where it cannot be read."""
    name = (read_json(folder.plan) or {}).get("name", "")
    return name if isinstance(name, str) else ""


def find_in(folders: Iterable[Folder], key: str) -> Folder | None:
    """Find a folder by its id, its name, or a unique prefix of its id; None where none, or more than one, matches."""
    everything = list(folders)
    for found in (
        [one for one in everything if one.id == key],
        [one for one in everything if key and name_in_plan(one) == key],
        [one for one in everything if key and one.id.startswith(key)],
    ):
        if found:
            return found[0] if len(found) == 1 else None
    return None


def remove_folder(folder: DrivenFolder, what: str, lives: str) -> None:
    """Delete a folder that no driver holds.

    Args:
        folder: the folder.
        what: what it is, for errors: ``group``.
        lives: what is said of one whose driver lives: ``is still driven``.

    Raises:
        RunError: its driver lives, or the folder cannot be deleted.
    """
    if run_lock.owner(folder.lock) is not None:
        raise RunError(f"{what} {folder.id} {lives}", hint=f"Stop it first: dpo-tui stop {folder.id}")
    removing = folder.path.with_name(f".removing-{folder.id}")
    try:
        if not run_lock.acquire(folder.lock):
            raise RunError(f"{what} {folder.id} is just being started", hint="Try again in a moment.")
        # Renamed first: nobody sees half of it, and nobody can resume what is being deleted.
        os.replace(folder.path, removing)
        delete_folder(removing, _is_driven)
        delete_leftovers(folder.path.parent, _is_driven)
    except OSError as error:
        raise RunError(f"cannot remove {what} {folder.id}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            run_lock.release(folder.lock)


def _is_driven(path: Path) -> bool:
    return (path / "plan.json").is_file()  # of groups and of improvements
