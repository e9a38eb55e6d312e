"""`dpo-tui compare`: settings and results of several runs side by side."""

import click

from dpo_tui.cli.output import narrate, print_json, terminal_columns
from dpo_tui.cli.run_argument import RUN_OR_GROUP
from dpo_tui.cli.run_summary_text import clip, columns
from dpo_tui.errors import UsageError
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_status import group_status
from dpo_tui.groups.group_store import find
from dpo_tui.groups.ranking import rank
from dpo_tui.runs.comparison import RunComparison
from dpo_tui.runs.comparison import compare as compare_runs
from dpo_tui.text.printable import printable
from dpo_tui.views.comparison_table import BEST_LEGEND, about_rows, result_rows, setting_rows
from dpo_tui.views.ranking_table import ranking_lines

_CELL_COLUMNS = 28


@click.command()
@click.argument("runs", type=RUN_OR_GROUP, nargs=-1, required=True, metavar="RUN RUN…")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def compare(runs: tuple[str, ...], as_json: bool) -> None:
    """Show which settings of runs differ, and their results.

    RUN is an id, a unique prefix of it, a name, or `last`. One GROUP alone is ranked by held-out accuracy; beside
    others it stands for its runs.
    """
    found = [find(run) for run in runs]
    if len(found) == 1 and isinstance(found[0], GroupFolder):
        _print_ranking(found[0], as_json)
        return
    folders = [run for one in found for run in (group_status(one).runs if isinstance(one, GroupFolder) else [one])]
    if len(folders) < 2:  # noqa: PLR2004 - a pair
        raise UsageError("compare needs two runs or more", hint="`dpo-tui runs` lists them")
    comparison = compare_runs(folders)
    if as_json:
        print_json(vars(comparison))
        return
    click.echo("\n".join(_table(comparison)))
    if comparison.best:
        click.echo(f"\n{BEST_LEGEND}")
    for note in comparison.notes:
        click.echo(printable(note, single_line=True))
    if comparison.warning:
        narrate(f"! {comparison.warning}")


def _print_ranking(group: GroupFolder, as_json: bool) -> None:
    ranking = rank(group_status(group))
    if as_json:
        print_json({"id": group.id, **ranking.document()})
        return
    click.echo("\n".join(ranking_lines(ranking, terminal_columns())))
    for note in ranking.notes:
        click.echo(printable(note, single_line=True))


def _table(comparison: RunComparison) -> list[str]:
    (run, *about), names = about_rows(comparison), [str(run["name"]) for run in comparison.runs]
    sections = [[run, ("name", names), *about], setting_rows(comparison.settings), result_rows(comparison)]
    rows: list[list[str]] = []
    for section in sections:
        rows += [[], *([name, *cells] for name, cells in section)] if rows else [[n, *cells] for n, cells in section]
    rows = [[_clipped(cell) for cell in row] for row in rows]
    widths = [max(columns(row[place]) for row in rows if row) for place in range(len(comparison.runs) + 1)]
    return [
        "  ".join(cell + " " * (width - columns(cell)) for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in rows
    ]


def _clipped(cell: str) -> str:
    """A cell cut to its width; of a path the end is kept, which says more."""
    if cell.startswith("/") and columns(cell) > _CELL_COLUMNS:
        return "…" + cell[1 - _CELL_COLUMNS :]
    return clip(cell, _CELL_COLUMNS)
