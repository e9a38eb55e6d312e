"""All runs: make one, list them, find one, remove one. Standard library only."""

import os
import re
import time
from pathlib import Path

from dpo_tui import paths
from dpo_tui.errors import HomeError, RunError, RunNotFoundError
from dpo_tui.runs import lock
from dpo_tui.runs.files import read_json
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.naming import given_name
from dpo_tui.runs.process import boot_id, host_name, is_same_process
from dpo_tui.runs.state import State, write_state
from dpo_tui.runs.status import status_of
from dpo_tui.runs.summary import summary

__all__ = ["all_runs", "create", "find", "remove", "require_result", "runs_in", "summary"]

_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
_LEFTOVER = re.compile(rf"\.(removing|creating)-{_ID.pattern}")
_ABANDONED = 3600.0
"""Seconds after which nobody is filling a new run's folder any more; it takes milliseconds."""
_CANDIDATES_SHOWN = 6


def create(
    config_toml_text: str, *, name: str, devices: list[str], after: str | None = None, python: str | None = None
) -> RunFolder:
    """Make the folder of a new run, in state ``queued``; `dpo_tui.runs.launch.start` starts it.

    Args:
        config_toml_text: the frozen, fully resolved config.
        name: what the person calls the run.
        devices: what it needs for itself, such as ``["gpu:0"]``; empty for none.
        after: id of a run that must have ended first, in any way.
        python: the interpreter that its worker needs; None for that of whoever starts it.

    Raises:
        HomeError: the home folder cannot be written.
    """
    home = paths.runs()
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        _delete_leftovers(home)
        while True:
            now = time.time()
            folder = RunFolder(home / _new_id(now))
            state = State(
                id=folder.id,
                name=name,
                created_at=now,
                queued_at=now,
                host=host_name(),
                boot_id=boot_id(),
                devices=list(devices),
                after=after,
                python=python,
            )
            if _fill(folder, config_toml_text, state):
                return folder
    except OSError as error:
        raise HomeError(
            f"cannot make a run under {home}: {error.strerror or error}",
            hint="Free some space there, or set DPO_TUI_HOME to a folder that you can write to.",
        ) from error


def all_runs() -> list[RunFolder]:
    """Every run, newest first; an absent home has none.

    Raises:
        HomeError: the home folder cannot be read.
    """
    return runs_in(paths.runs())


def runs_in(home: Path) -> list[RunFolder]:
    """Every run in a folder of runs, newest first; see `all_runs`."""
    try:
        with os.scandir(home) as entries:
            names = [entry.name for entry in entries if _ID.fullmatch(entry.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HomeError(
            f"cannot read the runs in {home}: {error.strerror or error}",
            hint="Set DPO_TUI_HOME to a folder that you can read.",
        ) from error
    return [RunFolder(home / name) for name in sorted(names, reverse=True)]


def find(key: str) -> RunFolder:
    """Find a run by its id, a unique prefix of it, its name, or ``last``.

    Raises:
        RunNotFoundError: nothing, or more than one run, goes by that key.
    """
    runs = all_runs()
    if not runs:
        raise RunNotFoundError(f"no such run: {key}", hint="There are no runs yet. `dpo-tui demo` makes one.")
    if key == "last":
        return runs[0]
    for found in ([run for run in runs if run.id == key], _named(runs, key), _prefixed(runs, key)):
        if len(found) == 1:
            return found[0]
        if found:
            raise RunNotFoundError(
                f"{len(found)} runs go by {key!r}: {_list(found)}",
                hint="Give more of the id; `dpo-tui runs` lists them.",
            )
    raise RunNotFoundError(f"no such run: {key}", hint=_nearest(runs, key))


def require_result(folder: RunFolder) -> None:
    """Refuse a run that has made nothing yet.

    Raises:
        RunError: it has neither adapter nor model.
    """
    if not folder.has_result:
        raise RunError(f"run {folder.id} has no result yet", hint=f"See how it goes: dpo-tui status {folder.id}")


def remove(folder: RunFolder) -> None:
    """Delete a run and all that it made.

    Raises:
        RunError: it is still being worked on, or the disk refused.
    """
    status = status_of(folder)
    worker_lives = status.state is not None and is_same_process(status.state.worker_pid, status.state.worker_start)
    if status.live or worker_lives:
        raise RunError(f"run {folder.id} is still running", hint=f"Stop it first: dpo-tui stop {folder.id}")
    try:
        taken = lock.acquire(folder.lock)
    except OSError as error:
        raise RunError(f"cannot remove run {folder.id}: {error.strerror or error}") from error
    if not taken:
        raise RunError(f"run {folder.id} is just being started or ended", hint="Try again in a moment.")
    try:
        # Renamed first: nobody sees half a run, and nobody can resume one that is being deleted.
        doomed = folder.path.with_name(f".removing-{folder.id}")
        os.replace(folder.path, doomed)
        _delete(doomed)
        _delete_leftovers(folder.path.parent)
    except OSError as error:
        raise RunError(f"cannot remove run {folder.id}: {error.strerror or error}") from error
    finally:
        lock.release(folder.lock)


def _new_id(now: float) -> str:
    """Date and time in UTC, so that ids sort as they were made even when clocks change, and 1/65536ths of a second."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{int(now % 1 * 65536):04x}"


def _fill(folder: RunFolder, config_toml_text: str, state: State) -> bool:
    """Write the folder aside and rename it into place, so that it is never seen half made; ``False`` if taken."""
    draft = RunFolder(folder.path.with_name(f".creating-{folder.id}"))
    try:
        draft.path.mkdir(mode=0o700)
    except FileExistsError:
        return False
    try:
        draft.control.mkdir()
        draft.config.write_text(config_toml_text, encoding="utf-8")
        write_state(draft, state)
        if folder.path.exists():
            return False
        os.rename(draft.path, folder.path)
        return True
    finally:
        _delete(draft.path, ignore_errors=True)


def _delete_leftovers(home: Path) -> None:
    """Delete what a removal or a creation that was killed has left: it may hold gigabytes, and no list shows it.

    Not when runs are listed, which the app does every second: deleting takes as long as the files are many.
    """
    with os.scandir(home) as entries:
        found = [entry for entry in entries if _LEFTOVER.fullmatch(entry.name)]
    for entry in found:
        # Whoever else deletes a doomed run does not mind help; one that is being filled must not be taken away.
        if entry.name.startswith(".removing-") or _age(Path(entry.path)) > _ABANDONED:
            _delete(Path(entry.path), ignore_errors=True)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _delete(path: Path, ignore_errors: bool = False) -> None:
    import shutil  # slow to load, and listing runs must be fast

    while os.path.lexists(path):
        try:
            shutil.rmtree(path, ignore_errors=ignore_errors)
        except FileNotFoundError:
            continue  # another process deletes it too, and was faster
        return


def _name(run: RunFolder) -> str:
    return given_name(run) or str((read_json(run.state) or {}).get("name", ""))


def _named(runs: list[RunFolder], key: str) -> list[RunFolder]:
    return [run for run in runs if _name(run) == key]


def _prefixed(runs: list[RunFolder], key: str) -> list[RunFolder]:
    return [run for run in runs if key and run.id.startswith(key)]


def _list(runs: list[RunFolder]) -> str:
    shown = ", ".join(run.id for run in runs[:_CANDIDATES_SHOWN])
    return shown + (", …" if len(runs) > _CANDIDATES_SHOWN else "")


def _nearest(runs: list[RunFolder], key: str) -> str:
    import difflib  # only on the way to an error: the listing must start fast

    names = [run.id for run in runs] + [name for run in runs if (name := _name(run))]
    near = list(dict.fromkeys(difflib.get_close_matches(key, names, n=3, cutoff=0.5)))
    return f"Did you mean {' or '.join(near)}?" if near else "`dpo-tui runs` lists them; `last` is the newest."
