"""`dpo-tui status`: how one run is doing, and which commands make sense next."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dpo_tui.cli.output import print_json, stdout_columns
from dpo_tui.cli.run_argument import RUN_OR_GROUP
from dpo_tui.cli.run_summary_text import next_steps, run_lines
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_store import find
from dpo_tui.runs import store
from dpo_tui.runs.status_names import OVER

if TYPE_CHECKING:
    from dpo_tui.advice.kept_diagnoses import KeptDiagnoses


@click.command()
@click.argument("run", type=RUN_OR_GROUP)
@click.option("--json", "as_json", is_flag=True, help="Print one flat JSON object.")
def status(run: str, as_json: bool) -> None:
    """Tell how a run is doing, and what can be done next. RUN is an id, a unique prefix of it, a name, or `last`.

    Of a GROUP it lists the runs, with what is different in each; of an improvement, the rounds.
    """
    found = find(run)
    if isinstance(found, ImprovementFolder):
        _improvement_status(found, as_json=as_json)
        return
    if isinstance(found, GroupFolder):
        _group_status(found, as_json=as_json)
        return
    summary = with_advice(store.summary(found))
    if as_json:
        print_json(summary)
        return
    click.echo("\n".join([*run_lines(summary, stdout_columns()), *next_steps(summary)]))


def _group_status(folder: GroupFolder, *, as_json: bool) -> None:
    from dpo_tui.cli.group_text import group_lines, group_next_steps  # slow to import, and most ask for a run
    from dpo_tui.groups.group_status import document, group_status

    group = group_status(folder)
    if as_json:
        print_json(document(group) | {"dir": str(folder.path)})
        return
    click.echo("\n".join([*group_lines(folder, group, stdout_columns()), *group_next_steps(folder, group)]))


def _improvement_status(folder: ImprovementFolder, *, as_json: bool) -> None:
    from dpo_tui.cli.improvement_text import improvement_lines  # slow to import, and most ask for a run
    from dpo_tui.improve.improvement_status import document, improvement_status

    improvement = improvement_status(folder)
    if as_json:
        print_json(document(folder, improvement))
        return
    click.echo("\n".join(improvement_lines(folder, improvement, stdout_columns())))


def with_advice(summary: dict[str, Any], diagnoses: "KeptDiagnoses | None" = None) -> dict[str, Any]:
    """Add the diagnosis of a run to its summary, unless its worker wrote one; changes and returns ``summary``.

    Args:
        summary: of the run.
        diagnoses: earlier ones of runs that are over.
    """
    if summary.get("advice") is None and summary["status"] != "queued":
        from dpo_tui.advice.diagnose import as_event, diagnose  # slow to import, with all rules

        if diagnoses is not None and summary["status"] in OVER:
            summary["advice"] = diagnoses.event_of(Path(summary["dir"]))
        else:
            summary["advice"] = as_event(diagnose(summary["dir"])[0])
    return summary
