"""The ranking of a group as a table, for `dpo-tui compare` and the app's Compare alike."""

from rich.cells import cell_len, set_cell_size

from dpo_tui.errors import DpoTuiError
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_status import group_status
from dpo_tui.groups.ranking import LOSS, Ranking, rank
from dpo_tui.groups.sweep_values import label
from dpo_tui.text.printable import printable
from dpo_tui.views.styled_text import Paragraph

_NAME = 16
"""Cells of a run's name in a terminal."""


def ranking_page(folder: GroupFolder, width: int) -> list[Paragraph]:
    """The ranking of a group as a page: what it is, its table, and what in it is chance.

    Args:
        folder: the group.
        width: cells of a line.
    """
    try:
        status = group_status(folder)
        ranking = rank(status)
    except DpoTuiError as error:
        return [(error.message, "bad"), (error.hint or "", "muted")]
    plan = status.plan
    about = f"{plan.kind} {plan.name} over {', '.join(plan.settings)}: {status.tally()}"
    head: list[Paragraph] = [(about, "heading"), *([(status.reason, "muted")] if status.reason else [])]
    lines = ranking_lines(ranking, width)
    rows: list[Paragraph] = [("", "text"), (lines[0], "muted"), *((line, "code") for line in lines[1:]), ("", "text")]
    return [*head, *rows, *((note, "text") for note in ranking.notes)]


def ranking_lines(ranking: Ranking, width: int | None) -> list[str]:
    """A ranking as lines of a table: place, run, figures, verdict, and the settings that differ.

    Args:
        ranking: of a group.
        width: columns of the terminal; None for a file or a pipe, where nothing is cut.
    """
    rows: list[tuple[str, ...]] = [
        ("", "name", "accuracy", "95 %", "loss", "margin", "KL", "against the best", "values")
    ]
    for one in ranking.runs:
        verdict = one.verdict if one.place is not None else one.status
        if one.place is not None and one.status not in ("done", one.verdict):
            verdict = f"{verdict}, {one.status}".removeprefix(", ")
        interval = f"{one.low:.2f}–{one.high:.2f}" if one.low is not None and one.high is not None else ""
        # Losses of runs that are ranked by accuracy mostly do not compare: a sweep is over β as often as not.
        loss = _figure(one.loss, 4) if ranking.by == LOSS else ""
        figures = [_figure(one.accuracy, 2), interval, loss, _figure(one.margin, 3), _figure(one.kl, 2)]
        name = one.name if width is None else _cut(one.name, _NAME)
        rows.append((str(one.place or "-"), name, *figures, verdict, label(one.values)))
    rows = [tuple(printable(cell, single_line=True) for cell in row) for row in rows]
    # A column that is empty for every run is left out, its head too.
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(cell_len, column)) for column in columns]
    lines = [
        " ".join(set_cell_size(cell, size) for cell, size in zip(row, widths, strict=True)).rstrip()
        for row in zip(*columns, strict=True)
    ]
    return [_cut(line, width) if width is not None else line for line in lines]


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, max(width - 1, 0)) + "…"


def _figure(value: float | None, decimals: int) -> str:
    if value is None:
        return ""
    # A small negative estimate is 0 in these digits, and not -0.
    return f"{round(value, decimals) + 0.0:.{decimals}f}"
