"""The folder of all improvements, beside that of all runs: create, list, find and remove. Standard library only."""

import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpo_tui import paths
from dpo_tui.errors import RunError, RunNotFoundError
from dpo_tui.groups import group_store
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_plan import ImprovementPlan
from dpo_tui.runs import run_lock, store
from dpo_tui.runs.atomic_files import (
    fsync_folder,
    json_line,
    only_regular,
    read_json,
    write_json_atomic,
    write_text_atomic,
)
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.metrics_reader import read_lines
from dpo_tui.runs.store import is_id, new_id


@dataclass(frozen=True)
class ImprovementPrompt:
    """A prompt of an improvement.

    Args:
        id: a digest of it.
        messages: the conversation that is answered.
        held_out: whether no round trains on it, and results are judged on it.
    """

    id: str
    messages: list[dict[str, Any]]
    held_out: bool


def improvements_home() -> Path:
    """The folder of all improvements."""
    return paths.home() / "improvements"


def create(plan: ImprovementPlan, config: str, prompts: Iterable[ImprovementPrompt]) -> ImprovementFolder:
    """Make an improvement's folder; nothing starts yet.

    Args:
        plan: with any id; the improvement gets one of its own.
        config: the text of its config.
        prompts: of both kinds.

    Raises:
        HomeError: the home folder cannot be written.
    """
    home = improvements_home()
    lines = "".join(
        json_line({"id": one.id, "messages": one.messages, "held_out": one.held_out}).decode("utf-8", "surrogatepass")
        for one in prompts
    )
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        while True:
            now = time.time()
            folder = ImprovementFolder(home / new_id(now))
            draft = ImprovementFolder(home / f".creating-{folder.id}")
            draft.control.mkdir(parents=True, mode=0o700)
            write_text_atomic(draft.config, config)
            write_text_atomic(draft.prompts, lines)
            frozen = replace(plan, id=folder.id, created_at=now, prompts_sha256=_sha256(draft.prompts))
            write_json_atomic(draft.plan, frozen.to_dict())
            taken = (folder.path, paths.runs() / folder.id, group_store.groups_home() / folder.id)
            if any(path.exists() for path in taken):
                shutil.rmtree(draft.path, ignore_errors=True)
                continue
            # Renamed when it is whole: nobody sees half of a plan.
            os.rename(draft.path, folder.path)
            fsync_folder(home)
            return folder
    except OSError as error:
        raise paths.home_error(f"cannot make an improvement under {home}", error) from error


def read_prompts(folder: ImprovementFolder) -> list[ImprovementPrompt]:
    """The prompts of an improvement, in the order of their file.

    Raises:
        RunError: the file is missing, or not as it was written. With other prompts held out, earlier rounds would have
            trained on what the result is judged on.
    """
    frozen = (read_json(folder.plan) or {}).get("prompts_sha256")
    try:
        changed = bool(frozen) and _sha256(folder.prompts) != frozen
    except OSError:
        changed = True
    lines = [] if changed else read_lines(folder.prompts)
    try:
        found = [ImprovementPrompt(str(one["id"]), list(one["messages"]), bool(one["held_out"])) for one in lines]
    except (KeyError, TypeError):
        found = []
    if not found:
        raise RunError(
            f"improvement {folder.id}: {folder.prompts.name} is missing or not as it was written",
            hint=f"put the file back as it was, or begin another improvement; dpo-tui rm {folder.id} deletes this one",
        )
    return found


def _sha256(path: Path) -> str:
    with open(path, "rb", opener=only_regular) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def all_improvements() -> list[ImprovementFolder]:
    """All improvements, newest first; a missing home has none.

    Raises:
        HomeError: the home folder cannot be read.
    """
    home = improvements_home()
    try:
        with os.scandir(home) as entries:
            names = [entry.name for entry in entries if is_id(entry.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise paths.home_error(f"cannot read the improvements in {home}", error) from error
    return [ImprovementFolder(home / name) for name in sorted(names, reverse=True)]


def improvement_name(folder: ImprovementFolder) -> str:
    """The name that the user gave it; empty where it cannot be read."""
    name = (read_json(folder.plan) or {}).get("name", "")
    return name if isinstance(name, str) else ""


def find_improvement(key: str) -> ImprovementFolder | None:
    """Find an improvement by its id, its name, or a unique prefix of its id; None where none, or more than one, is."""
    everything = all_improvements()
    for found in (
        [one for one in everything if one.id == key],
        [one for one in everything if key and improvement_name(one) == key],
        [one for one in everything if key and one.id.startswith(key)],
    ):
        if found:
            return found[0] if len(found) == 1 else None
    return None


def find(key: str) -> RunFolder | GroupFolder | ImprovementFolder:
    """Find a run, a group or an improvement. What is exactly a run's or group's id or name is that one.

    Raises:
        RunNotFoundError: none, or more than one, matches.
    """
    improvement = find_improvement(key)
    if improvement is None:
        return group_store.find(key)
    if improvement.id == key:
        return improvement
    try:
        other = group_store.find(key)
    except RunNotFoundError:
        return improvement
    name = group_store.group_name(other) if isinstance(other, GroupFolder) else store.name_of(other)
    if key in (other.id, name, "last"):
        return other
    if improvement_name(improvement) == key:
        return improvement
    raise RunNotFoundError(
        f"{other.id} and improvement {improvement.id} both go by {key!r}",
        hint="Give more of the id; `dpo-tui runs` lists them.",
    )


def remove_improvement(folder: ImprovementFolder) -> None:
    """Delete an improvement's folder; its groups and runs are left, for the caller to delete first.

    Raises:
        RunError: its driver lives, or the folder cannot be deleted.
    """
    if run_lock.owner(folder.lock) is not None:
        raise RunError(f"improvement {folder.id} is still running", hint=f"Stop it first: dpo-tui stop {folder.id}")
    removing = folder.path.with_name(f".removing-{folder.id}")
    try:
        if not run_lock.acquire(folder.lock):
            raise RunError(f"improvement {folder.id} is just being started", hint="Try again in a moment.")
        # Renamed first: nobody sees half of it, and nobody can resume what is being deleted.
        os.replace(folder.path, removing)
        shutil.rmtree(removing)
    except OSError as error:
        raise RunError(f"cannot remove improvement {folder.id}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            run_lock.release(folder.lock)
