"""`dpo-tui compare`: settings and results of several runs side by side."""

import click

from dpo_tui.cli.output import narrate, print_json
from dpo_tui.cli.run_argument import RUN
from dpo_tui.cli.run_summary_text import clip, columns
from dpo_tui.errors import UsageError
from dpo_tui.runs import store
from dpo_tui.runs.comparison import RESULTS, Comparison
from dpo_tui.runs.comparison import compare as compare_runs
from dpo_tui.text.numbers import plain_number
from dpo_tui.text.printable import printable

_CELL_COLUMNS = 28
_BEST_MARK = " *"


@click.command()
@click.argument("runs", type=RUN, nargs=-1, required=True, metavar="RUN RUN…")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def compare(runs: tuple[str, ...], as_json: bool) -> None:
    """Show which settings of runs differ, and their results.

    RUN is an id, a unique prefix of it, a name, or `last`.
    """
    if len(runs) < 2:  # noqa: PLR2004 - a pair
        raise UsageError("compare needs two runs or more", hint="`dpo-tui runs` lists them")
    comparison = compare_runs([store.find(run) for run in runs])
    if as_json:
        print_json(vars(comparison))
        return
    click.echo("\n".join(_table(comparison)))
    if comparison.best:
        click.echo(f"\n{_BEST_MARK.strip()} best of its row")
    if comparison.same_held_out is False:
        narrate("! the runs were evaluated on different pairs: their held-out figures do not compare")


def _table(comparison: Comparison) -> list[str]:
    rows = [
        ["run", *(run["id"] for run in comparison.runs)],
        ["name", *(run["name"] for run in comparison.runs)],
        ["status", *(run["status"] for run in comparison.runs)],
        ["steps", *(_steps(run["step"], run["max_steps"]) for run in comparison.runs)],
        [],
    ]
    rows += [[name, *(_setting_text(value) for value in values)] for name, values in comparison.settings.items()]
    rows.append([])
    for name, label, _ in RESULTS:
        if name in comparison.results:
            cells = [_figure(value) for value in comparison.results[name]]
            if name in comparison.best:
                cells[comparison.best[name]] += _BEST_MARK
            rows.append([label, *cells])
    rows = [[clip(cell, _CELL_COLUMNS) for cell in row] for row in rows]
    widths = [max(columns(row[place]) for row in rows if row) for place in range(len(comparison.runs) + 1)]
    return [
        "  ".join(cell + " " * (width - columns(cell)) for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in rows
    ]


def _steps(step: object, last: object) -> str:
    if not isinstance(step, int):
        return "—"
    return f"{step:,}/{last:,}" if isinstance(last, int) else f"{step:,}"


def _setting_text(value: object) -> str:
    if value is None:
        return "—"
    text = plain_number(value) if isinstance(value, float) else str(value)
    return printable(text.rpartition("/")[2] if text.startswith("/") else text, single_line=True)


def _figure(value: float | None) -> str:
    return "—" if value is None else f"{value:.4g}"
