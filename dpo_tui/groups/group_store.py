"""The folder of all groups, beside that of all runs: create, list, find and remove groups. Standard library only."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dpo_tui import paths
from dpo_tui.errors import RunError, RunNotFoundError
from dpo_tui.groups import driven_store
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.runs import store
from dpo_tui.runs.atomic_files import read_json, write_json_atomic, write_text_atomic
from dpo_tui.runs.folder import RunFolder

if TYPE_CHECKING:
    from dpo_tui.groups.group_plan import GroupPlan


def groups_home() -> Path:
    """The folder of all groups."""
    return paths.home() / "groups"


def create_group(plan: "GroupPlan", configs: Sequence[str]) -> GroupFolder:
    """Make a group's folder; nothing starts yet.

    Args:
        plan: with any id; the group gets one of its own.
        configs: the resolved config of each member, as TOML.

    Raises:
        HomeError: the home folder cannot be written.
    """

    def fill(path: Path, name: str, now: float) -> None:
        draft = GroupFolder(path)
        draft.member_config(1).parent.mkdir(mode=0o700)
        draft.control.mkdir(mode=0o700)
        for number, text in enumerate(configs, 1):
            write_text_atomic(draft.member_config(number), text)
        write_json_atomic(draft.plan, replace(plan, id=name, created_at=now).to_dict())

    return GroupFolder(driven_store.create_folder(groups_home(), "a group", fill, (paths.runs(),)))


def all_groups() -> list[GroupFolder]:
    """All groups, newest first; a missing home has none.

    Raises:
        HomeError: the home folder cannot be read.
    """
    return [GroupFolder(path) for path in driven_store.folders_in(groups_home(), "groups")]


def group_name(folder: GroupFolder) -> str:
    """The name that the user gave a group; empty where it cannot be read."""
    return driven_store.name_in_plan(folder)


def member_names(folder: GroupFolder) -> list[str]:
    """Names of a group's runs, of those to come too; empty where they cannot be read."""
    members = (read_json(folder.plan) or {}).get("members")
    found = [one.get("name") for one in members if isinstance(one, dict)] if isinstance(members, list) else []
    return [name for name in found if isinstance(name, str)]


def find_group(key: str) -> GroupFolder | None:
    """Find a group by its id, a unique prefix of it, or its name; None where none, or more than one, matches."""
    return driven_store.find_in(all_groups(), key)


def find(key: str) -> RunFolder | GroupFolder:
    """Find a run or a group. What is exactly a run's id or name is that run, else a group is looked for first.

    Raises:
        RunNotFoundError: neither, or more than one, matches.
    """
    group = find_group(key)
    if group is None:
        return store.find(key)
    try:
        run = store.find(key)
    except RunNotFoundError as error:
        # A prefix of several runs and of the group, such as a date, is nobody's.
        if group.id == key or group_name(group) == key or not any(one.id.startswith(key) for one in store.all_runs()):
            return group
        raise error from None
    if key in (run.id, store.name_of(run), "last"):
        return run
    if group.id == key or group_name(group) == key:
        return group
    raise RunNotFoundError(
        f"run {run.id} and group {group.id} both go by {key!r}", hint="Give more of the id; `dpo-tui runs` lists them."
    )


def find_run(key: str) -> RunFolder:
    """Find a run, for what cannot be done to a group.

    Raises:
        RunNotFoundError: there is none, or it is a group.
    """
    found = find(key)
    if isinstance(found, RunFolder):
        return found
    from dpo_tui.groups.group_status import group_status  # only on the way to an error: most commands look a run up

    name = group_name(found)
    try:
        runs = group_status(found).runs
    except RunError:
        runs = []
    newest = f"name one of its runs, such as {runs[-1].id}; " if runs else ""
    raise RunNotFoundError(
        f"{found.id}{f' ({name})' if name else ''} is a group of runs, and this is done to one run",
        hint=f"{newest}`dpo-tui status {found.id}` lists them",
    )


def remove_group(folder: GroupFolder) -> None:
    """Delete a group's folder; its runs are left, for the caller to delete first.

    Raises:
        RunError: its driver lives, or the folder cannot be deleted.
    """
    driven_store.remove_folder(folder, "group", "is still driven")
