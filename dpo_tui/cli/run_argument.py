"""The argument RUN of many commands: a click type, so that shells complete it with the ids and names of runs."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dpo_tui.cli.output import narrate
from dpo_tui.errors import RunError
from dpo_tui.text.printable import printable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from dpo_tui.groups.group_folder import GroupFolder
    from dpo_tui.improve.improvement_folder import ImprovementFolder
    from dpo_tui.runs.folder import RunFolder

Folder = TypeVar("Folder")

_ONE_WORD = re.compile(r"[\w.+@-]+")
"""Names that a shell takes as they are; others would need quotes, which the shells' protocols do not carry."""


class RunArgument(click.ParamType):  # type: ignore[type-arg]  # click 8.1 has no generic ParamType
    """A run's id, a unique prefix of it, its name, or ``last``; `dpo_tui.groups.group_store` finds it, and groups."""

    name = "run"

    def __init__(self, *, takes_groups: bool = False) -> None:
        self.takes_groups = takes_groups

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text as it is: the command looks the run up, and says what is wrong with it."""
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        """Propose ids, newest first, and names; a home that cannot be read has none."""
        # Only a shell that completes needs these, and every command with a run imports this module.
        from click.shell_completion import CompletionItem

        from dpo_tui.errors import DpoTuiError
        from dpo_tui.groups.group_store import all_groups, group_name
        from dpo_tui.improve.improvement_store import all_improvements, improvement_name
        from dpo_tui.runs import store

        try:
            runs = store.all_runs()
            names = {run.id: store.name_of(run) for run in runs}
            groups = {group.id: group_name(group) for group in all_groups()} if self.takes_groups else {}
            if self.takes_groups:
                groups |= {one.id: improvement_name(one) for one in all_improvements()}
        except DpoTuiError:
            return []
        proposals = [CompletionItem("last", help="the newest run")] if runs else []
        proposals += [CompletionItem(run.id, help=printable(names[run.id], single_line=True)) for run in runs]
        proposals += [CompletionItem(name, help=run_id) for run_id, name in names.items() if _ONE_WORD.fullmatch(name)]
        proposals += [
            CompletionItem(key, help=f"group {printable(name, single_line=True)}") for key, name in groups.items()
        ]
        proposals += [
            CompletionItem(name, help=f"group {key}") for key, name in groups.items() if _ONE_WORD.fullmatch(name)
        ]
        return [item for item in proposals if item.value.startswith(incomplete)]


RUN = RunArgument()
RUN_OR_GROUP = RunArgument(takes_groups=True)
"""Of a command that acts on a group, or an improvement, as on a run."""


def found_all(names: Sequence[str]) -> "list[RunFolder | GroupFolder | ImprovementFolder]":
    """Find every run, group and improvement before anything is done to one; what is named twice is returned once.

    Raises:
        RunNotFoundError: one of them does not exist.
    """
    from dpo_tui.improve.improvement_store import find

    return list({folder.id: folder for folder in map(find, names)}.values())


def found_in_queue(names: Sequence[str]) -> "list[RunFolder | GroupFolder]":
    """As :func:`found_all`, of runs and groups alone: an improvement waits in no queue, the groups of its rounds do.

    Raises:
        RunNotFoundError: one of them does not exist.
    """
    from dpo_tui.groups.group_store import find

    return list({folder.id: folder for folder in map(find, names)}.values())


def for_each(folders: "Sequence[Folder]", action: "Callable[[Folder], None]") -> None:
    """Call an action for each run or group. One that it fails for does not keep it from the others.

    Raises:
        RunError: it failed for some; the last error, after the others were printed.
    """
    errors: list[RunError] = []
    for folder in folders:
        try:
            action(folder)
        except RunError as error:
            errors.append(error)
    for earlier in errors[:-1]:
        narrate(str(earlier))
    if errors:
        raise errors[-1]
