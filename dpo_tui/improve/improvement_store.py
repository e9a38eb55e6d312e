"""The folder of all improvements, beside that of all runs: create, list, find and remove. Standard library only."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpo_tui import paths
from dpo_tui.errors import RunError, RunNotFoundError
from dpo_tui.groups import driven_store, group_store
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_plan import ImprovementPlan
from dpo_tui.runs import store
from dpo_tui.runs.atomic_files import (
    json_line,
    only_regular,
    read_json,
    write_json_atomic,
    write_text_atomic,
)
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.metrics_reader import read_lines


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
    lines = "".join(
        json_line({"id": one.id, "messages": one.messages, "held_out": one.held_out}).decode("utf-8", "surrogatepass")
        for one in prompts
    )

    def fill(path: Path, name: str, now: float) -> None:
        draft = ImprovementFolder(path)
        draft.control.mkdir(mode=0o700)
        write_text_atomic(draft.config, config)
        write_text_atomic(draft.prompts, lines)
        frozen = replace(plan, id=name, created_at=now, prompts_sha256=_sha256(draft.prompts))
        write_json_atomic(draft.plan, frozen.to_dict())

    others = (paths.runs(), group_store.groups_home())
    return ImprovementFolder(driven_store.create_folder(improvements_home(), "an improvement", fill, others))


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
        found = [ImprovementPrompt(str(one["id"]), _messages(one["messages"]), bool(one["held_out"])) for one in lines]
    except (KeyError, TypeError):
        found = []
    if not found:
        raise RunError(
            f"improvement {folder.id}: {folder.prompts.name} is missing or not as it was written",
            hint=f"put the file back as it was, or begin another improvement; dpo-tui rm {folder.id} deletes this one",
        )
    return found


def _messages(found: Any) -> list[dict[str, Any]]:
    """The messages of a prompt.

    Raises:
        TypeError: they are none, or no messages.
    """
    if not isinstance(found, list) or not found or not all(isinstance(one, dict) for one in found):
        raise TypeError
    return found


def _sha256(path: Path) -> str:
    import hashlib  # listing must be fast, and needs none

    with open(path, "rb", opener=only_regular) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def all_improvements() -> list[ImprovementFolder]:
    """All improvements, newest first; a missing home has none.

    Raises:
        HomeError: the home folder cannot be read.
    """
    return [ImprovementFolder(path) for path in driven_store.folders_in(improvements_home(), "improvements")]


def improvement_name(folder: ImprovementFolder) -> str:
    """The name that the user gave it; empty where it cannot be read."""
    return driven_store.name_in_plan(folder)


def find_improvement(key: str) -> ImprovementFolder | None:
    """Find an improvement by its id, its name, or a unique prefix of its id; None where none, or more than one, is."""
    return driven_store.find_in(all_improvements(), key)


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
    driven_store.remove_folder(folder, "improvement", "is still running")
