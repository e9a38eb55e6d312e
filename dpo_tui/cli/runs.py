"""`dpo-tui runs`: all runs as a table, or as JSON."""

import time
from typing import TYPE_CHECKING, Any

import click

from dpo_tui.cli.output import narrate, print_json, terminal_columns
from dpo_tui.cli.run_summary_text import table
from dpo_tui.errors import RunError
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_store import all_groups
from dpo_tui.improve.improvement_store import all_improvements
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.status_names import UNKNOWN

if TYPE_CHECKING:
    from dpo_tui.advice.kept_diagnoses import KeptDiagnoses
    from dpo_tui.groups.group_status import GroupStatus


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, each item as `status --json` prints it.")
@click.option("--groups", "only_groups", is_flag=True, help="List the groups (sweeps) and not the runs.")
def runs(as_json: bool, only_groups: bool) -> None:
    """List all runs, newest first; the runs of a group stand below it."""
    if only_groups:
        _list_groups(as_json)
        return
    now = time.time()
    diagnoses = None
    if as_json:
        from dpo_tui.advice.kept_diagnoses import KeptDiagnoses  # imports all rules

        diagnoses = KeptDiagnoses()
    summaries = [_summary_or_reason(folder, now, diagnoses) for folder in store.all_runs()]
    if diagnoses is not None:
        diagnoses.save()
        print_json(summaries)
    elif (groups := all_groups()) or all_improvements():
        click.echo(
            "\n".join(
                [*_improvement_rows(terminal_columns()), *_with_groups(summaries, groups, terminal_columns(), now)]
            )
        )
    elif summaries:
        click.echo("\n".join(table(summaries, terminal_columns(), now)))
    else:
        narrate("No runs yet. `dpo-tui demo` makes one in a minute, `dpo-tui train CONFIG` a real one.")


def _with_groups(
    summaries: list[dict[str, Any]], groups: list[GroupFolder], width: int | None, now: float
) -> list[str]:
    """The table of runs, in which each group is a row above its runs, at the place of its newest one."""
    from dpo_tui.cli.group_text import group_row  # only where there are groups: `runs` shall start fast

    head, *rows = table(summaries, width, now)
    entries = {group.id: (group.id, [group_row(group, _status_or_reason(group), width)]) for group in groups}
    for summary, row in zip(summaries, rows, strict=True):
        belongs = summary.get("group")
        key = str(belongs.get("id")) if isinstance(belongs, dict) else ""
        if key not in entries:
            key = str(summary["id"])
        newest, lines = entries.get(key, ("", []))
        entries[key] = (max(newest, str(summary["id"])), [*lines, row])
    ordered = sorted(entries.values(), key=lambda entry: entry[0], reverse=True)
    return [head, *(line for _, lines in ordered for line in lines)]


def _improvement_rows(width: int | None) -> list[str]:
    """A row for each improvement, above the table: its runs are there in the groups of its rounds."""
    folders = all_improvements()
    if not folders:
        return []
    from dpo_tui.cli.improvement_text import improvement_row  # only where there are some: `runs` shall start fast
    from dpo_tui.improve.improvement_status import improvement_status

    rows = []
    for folder in folders:
        try:
            rows.append(improvement_row(folder, improvement_status(folder), width))
        except RunError as error:
            rows.append(improvement_row(folder, error.message, width))
    return rows


def _status_or_reason(folder: GroupFolder) -> "GroupStatus | str":
    from dpo_tui.groups.group_status import group_status

    try:
        return group_status(folder)
    except RunError as error:
        return error.message


def _list_groups(as_json: bool) -> None:
    from dpo_tui.cli.group_text import group_row
    from dpo_tui.groups.group_status import document

    groups = [(folder, _status_or_reason(folder)) for folder in all_groups()]
    if as_json:
        print_json(
            [
                {"id": folder.id, "status": UNKNOWN, "reason": found}
                if isinstance(found, str)
                else document(found) | {"dir": str(folder.path)}
                for folder, found in groups
            ]
        )
        return
    for folder, found in groups:
        click.echo(group_row(folder, found, terminal_columns()))
    if not groups:
        narrate("No groups yet. `dpo-tui train CONFIG --sweep KEY=V,V` makes one.")


def _summary_or_reason(folder: RunFolder, now: float, diagnoses: "KeptDiagnoses | None") -> dict[str, Any]:
    """A run's summary, or the reason why this version cannot read it: one bad folder must not hide the others."""
    try:
        summary = store.summary(folder, now=now, brief=diagnoses is None)
        if diagnoses is None:
            return summary
        # Imported for --json alone: the rules of advice take longer to import than a hundred runs to list.
        from dpo_tui.cli.run_status import with_advice

        return with_advice(summary, diagnoses)
    except RunError as error:
        return {"id": folder.id, "name": "", "status": UNKNOWN, "reason": error.message, "dir": str(folder.path)}
