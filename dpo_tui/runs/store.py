"""The folder of all runs: create, list, find and remove runs. Standard library only."""

import os
import re
import time
from pathlib import Path
from typing import Any

from dpo_tui import paths
from dpo_tui.errors import RunError, RunNotFoundError
from dpo_tui.runs import run_lock
from dpo_tui.runs.atomic_files import fsync_folder, read_json, write_text_atomic
from dpo_tui.runs.contract_version import NewerVersionError, refuse_newer
from dpo_tui.runs.devices import DeviceRequest
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.folder_removal import ID_PATTERN, delete_folder, delete_leftovers
from dpo_tui.runs.naming import given_name
from dpo_tui.runs.process import boot_id, host_name, is_same_process
from dpo_tui.runs.state import State, write_state
from dpo_tui.runs.status import status_of
from dpo_tui.runs.summary import summary

__all__ = ["all_runs", "create", "find", "remove", "require_result", "runs_in", "summary"]

_ID = re.compile(ID_PATTERN)
_CANDIDATES_SHOWN = 6


def create(
    config_toml_text: str,
    *,
    name: str,
    devices: list[str],
    device_request: DeviceRequest | None = None,
    after: str | None = None,
    python: str | None = None,
    launcher: str = "local",
    ranks: int = 1,
    group: dict[str, Any] | None = None,
) -> RunFolder:
    """Create the folder of a new run, in state ``queued``; `dpo_tui.runs.start_run.start` starts it.

    Args:
        config_toml_text: the frozen, fully resolved config.
        name: given by the user.
        devices: devices that it uses alone, such as ``["gpu:0"]``; empty for none.
        device_request: candidates to choose from when the run leaves the queue, instead of ``devices``.
        after: id of a run that must have ended first, in any way.
        python: the interpreter that its worker needs; None for that of the process that starts the run.
        launcher: how its worker starts, a name in `dpo_tui.runs.launchers.registry`.
        ranks: number of processes that train together.
        group: the group that it is a member of, as in `dpo_tui.runs.state.State`.

    Raises:
        HomeError: the home folder cannot be written.
    """
    home = paths.runs()
    try:
        _make_home(home)
        delete_leftovers(home, _is_run)
        while True:
            now = time.time()
            folder = RunFolder(home / new_id(now))
            state = State(
                id=folder.id,
                name=name,
                created_at=now,
                queued_at=now,
                host=host_name(),
                boot_id=boot_id(),
                devices=list(devices),
                device_request=device_request,
                after=after,
                python=python,
                launcher=launcher,
                ranks=ranks,
                group=group,
            )
            if _fill(folder, config_toml_text, state):
                return folder
    except OSError as error:
        raise paths.home_error(f"cannot make a run under {home}", error) from error


def all_runs() -> list[RunFolder]:
    """All runs, newest first; a missing home has none.

    Raises:
        HomeError: the home folder cannot be read.
    """
    return runs_in(paths.runs())


def runs_in(home: Path) -> list[RunFolder]:
    """All runs in a folder of runs, newest first; see `all_runs`."""
    return [RunFolder(home / run_id) for run_id in run_ids_in(home)]


def run_ids_in(home: Path) -> list[str]:
    """The ids of all runs in a folder of runs, newest first; see `all_runs`."""
    try:
        with os.scandir(home) as entries:
            ids = [entry.name for entry in entries if is_id(entry.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise paths.home_error(f"cannot read the runs in {home}", error) from error
    return sorted(ids, reverse=True)


def find(key: str) -> RunFolder:
    """Find a run by its id, a unique prefix of it, its name, or ``last``.

    Raises:
        RunNotFoundError: no run, or more than one, matches.
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


def name_of(run: RunFolder) -> str:
    """Return the name that the user gave a run, else the one that it was made with; empty where it cannot be read."""
    return given_name(run) or str((read_json(run.state) or {}).get("name", ""))


def require_known_version(folder: RunFolder) -> None:
    """Check that no newer dpo-tui wrote a run, before anything of it is used without its state.

    Raises:
        RunError: a newer one did.
    """
    refuse_newer(read_json(folder.state), folder.id)


def require_result(folder: RunFolder) -> None:
    """Check that a run has a result.

    Raises:
        RunError: it has neither adapter nor model, or is of a newer version.
    """
    require_known_version(folder)
    if not folder.has_result:
        raise RunError(f"run {folder.id} has no result yet", hint=f"See how it goes: dpo-tui status {folder.id}")


def remove(folder: RunFolder) -> None:
    """Delete a run's folder.

    Raises:
        RunError: it is still running, being started or ended, or cannot be deleted.
    """
    if _is_live(folder):
        raise RunError(f"run {folder.id} is still running", hint=f"Stop it first: dpo-tui stop {folder.id}")
    try:
        taken = run_lock.acquire(folder.lock)
    except OSError as error:
        raise RunError(f"cannot remove run {folder.id}: {error.strerror or error}") from error
    if not taken:
        raise RunError(f"run {folder.id} is just being started or ended", hint="Try again in a moment.")
    try:
        # Renamed first: nobody sees a half-deleted run, and nobody can resume one that is being deleted.
        removing = folder.path.with_name(f".removing-{folder.id}")
        os.replace(folder.path, removing)
        delete_folder(removing, _is_run)
        delete_leftovers(folder.path.parent, _is_run)
    except OSError as error:
        raise RunError(f"cannot remove run {folder.id}: {error.strerror or error}") from error
    finally:
        run_lock.release(folder.lock)


def _is_live(folder: RunFolder) -> bool:
    """Whether a run has a supervisor or a worker that lives.

    A run whose state cannot be read can be deleted, or it would stay for ever: its lock says whether it is supervised,
    and what there is of its state whether its worker lives.
    """
    try:
        status = status_of(folder)
    except NewerVersionError:
        raise  # it is whole, and that version knows whether it is live
    except RunError:
        document = read_json(folder.state) or {}
        pid, start = document.get("worker_pid"), document.get("worker_start")
        known = type(pid) is int and type(start) is int
        return run_lock.owner(folder.lock) is not None or (known and is_same_process(pid, start))
    if status.live:
        return True
    return status.state is not None and is_same_process(status.state.worker_pid, status.state.worker_start)


def is_id(name: str) -> bool:
    """Whether a name has the form of a run's id."""
    return _ID.fullmatch(name) is not None


def new_id(now: float) -> str:
    """An id of the date and time in UTC, unaffected by daylight saving, and 1/65536ths of a second: ids sort by age."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{int(now % 1 * 65536):04x}"


def _make_home(home: Path) -> None:
    """Make the folder of all runs; a power cut after it keeps the folders that were made."""
    missing = [path for path in (home, *home.parents) if not path.exists()]
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    for made in missing:
        fsync_folder(made.parent)


def _fill(folder: RunFolder, config_toml_text: str, state: State) -> bool:
    """Write the folder under another name and rename it, so that no reader sees it incomplete.

    A run that there is has its config and state on the disk: a power cut in its first seconds must not leave one with
    an empty config, which could never be resumed.

    Returns:
        ``False`` if the id is taken.
    """
    draft = RunFolder(folder.path.with_name(f".creating-{folder.id}"))
    try:
        draft.path.mkdir(mode=0o700)
    except FileExistsError:
        return False
    try:
        draft.control.mkdir()
        # Both wait for the disk, for the file and for its entry in the draft's folder.
        write_text_atomic(draft.config, config_toml_text)
        write_state(draft, state)
        if folder.path.exists():
            return False
        os.rename(draft.path, folder.path)
        # Last: were the new name on the disk before the files, a power cut in between would leave it to an empty run.
        fsync_folder(folder.path.parent)
        return True
    finally:
        delete_folder(draft.path, _is_run, ignore_errors=True)


def _is_run(path: Path) -> bool:
    return RunFolder(path).state.is_file()


def _named(runs: list[RunFolder], key: str) -> list[RunFolder]:
    return [run for run in runs if name_of(run) == key]


def _prefixed(runs: list[RunFolder], key: str) -> list[RunFolder]:
    return [run for run in runs if key and run.id.startswith(key)]


def _list(runs: list[RunFolder]) -> str:
    shown = ", ".join(run.id for run in runs[:_CANDIDATES_SHOWN])
    return shown + (", …" if len(runs) > _CANDIDATES_SHOWN else "")


def _nearest(runs: list[RunFolder], key: str) -> str:
    import difflib  # only on the way to an error: the listing must start fast

    names = [run.id for run in runs] + [name for run in runs if (name := name_of(run))]
    near = list(dict.fromkeys(difflib.get_close_matches(key, names, n=3, cutoff=0.5)))
    return f"Did you mean {' or '.join(near)}?" if near else "`dpo-tui runs` lists them; `last` is the newest."
