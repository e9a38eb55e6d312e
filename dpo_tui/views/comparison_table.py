"""The comparison of several runs as rows and tables, for `dpo-tui compare` and the app's Compare alike."""

from collections.abc import Mapping, Sequence
from typing import Any

from dpo_tui.runs.comparison import RESULTS, RunComparison
from dpo_tui.text.numbers import plain_number, short_number
from dpo_tui.text.printable import printable
from dpo_tui.views.chart_registry import CHARTS
from dpo_tui.views.run_feed import RunFeed, finite_number
from dpo_tui.views.styled_text import Paragraph

_ABSENT = "—"
_BEST = " *"
"""Follows the best value of a row."""
BEST_LEGEND = "* best of its row"
Row = tuple[str, list[str]]
"""The head of a row, and its cell for each run."""


def about_rows(comparison: RunComparison) -> list[Row]:
    """Id, status and steps of each run."""
    runs = comparison.runs
    return [
        ("run", [run["id"] for run in runs]),
        ("status", [run["status"] for run in runs]),
        ("steps", [_steps(run["step"], run["max_steps"]) for run in runs]),
    ]


def setting_rows(settings: Mapping[str, Sequence[Any]]) -> list[Row]:
    """The settings that differ, as `RunComparison.settings` has them; of paths their last part, if that differs too."""
    return [(name, _value_texts(values)) for name, values in settings.items()]


def result_rows(comparison: RunComparison) -> list[Row]:
    """The results by their labels, the best of a row marked."""
    rows = []
    for name, label, _ in RESULTS:
        if name in comparison.results:
            best = comparison.best.get(name)
            cells = [_ABSENT if value is None else f"{value:.4g}" for value in comparison.results[name]]
            # Blanks in place of the mark, so that right-aligned figures stay below each other.
            other = " " * len(_BEST) if comparison.best else ""
            rows.append((label, [cell + (_BEST if index == best else other) for index, cell in enumerate(cells)]))
    return rows


def comparison_page(comparison: RunComparison, heads: Sequence[str], width: int) -> list[Paragraph]:
    """The whole comparison as a page: settings that differ, results, and what in them is chance.

    Args:
        comparison: the runs.
        heads: the title of each run's column.
        width: cells of a line.
    """
    settings, figures = setting_rows(comparison.settings), result_rows(comparison)
    about = about_rows(comparison)
    lines = table(heads, [*settings, *figures, *about], width)
    first, last = 1 + len(settings), 1 + len(settings) + len(figures)
    page: list[Paragraph] = [(lines[0], "heading"), ("Settings that differ", "muted")]
    page += [(line, "code") for line in lines[1:first]] or [("none: they are the same", "muted")]
    page += [("", "text"), ("Results", "muted")]
    page += [(line, "code") for line in lines[first:last]] or [("none yet", "muted")]
    if comparison.best:
        page.append((BEST_LEGEND, "muted"))
    page.append(("", "text"))
    if comparison.warning:
        page.append((f"! {comparison.warning}", "warn"))
    page += [(note, "text") for note in comparison.notes]
    page += [("", "text"), *((line, "muted") for line in lines[last:])]
    return page


def latest_rows(feeds: Sequence[RunFeed]) -> list[Row]:
    """The latest value of every metric.

    Args:
        feeds: the runs.

    Returns:
        (metric, its value in each run), in the order of the charts, ``eval_<metric>`` after its metric.
    """
    order = [metric for entry in CHARTS for metric, _ in entry.metrics]
    present = {name for feed in feeds for name in feed.latest}
    known = [name for metric in order for name in (metric, f"eval_{metric}") if name in present]
    rest = sorted(present - set(known))
    rows = []
    for name in [*known, *rest]:
        values = [finite_number(feed.latest.get(name)) for feed in feeds]
        rows.append((name, [_ABSENT if value is None else short_number(value) for value in values]))
    return rows


def table(heads: Sequence[str], rows: Sequence[Row], width: int) -> list[str]:
    """Lines of a table whose first column holds names, and the others right-aligned values.

    Args:
        heads: the title of each column of values.
        rows: (name, values).
        width: cells of a line; names and titles are cut to fit, of a value its end is kept.
    """
    name_width = min(max([len(name) for name, _ in rows], default=8), max(width // 3, 8))
    column_width = max((width - name_width) // max(len(heads), 1) - 2, 6)
    lines = ["".join([" " * name_width, *(f"  {head[-column_width:]:>{column_width}}" for head in heads)])]
    for name, values in rows:
        cells = (f"  {_end_of(value, column_width):>{column_width}}" for value in values)
        lines.append("".join([f"{name[:name_width]:<{name_width}}", *cells]))
    return lines


def _value_texts(values: Sequence[Any]) -> list[str]:
    texts = [_value_text(value) for value in values]
    ends = [text.rpartition("/")[2] if text.startswith("/") else text for text in texts]
    # Two files of one name in two folders differ in their folders.
    return ends if len(set(ends)) == len(set(texts)) else texts


def _value_text(value: Any) -> str:
    if value is None:
        return _ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    return plain_number(value) if isinstance(value, float) else printable(str(value), single_line=True)


def _steps(step: object, last: object) -> str:
    if not isinstance(step, int):
        return _ABSENT
    return f"{step:,}/{last:,}" if isinstance(last, int) else f"{step:,}"


def _end_of(value: str, width: int) -> str:
    """A value, or its last characters behind an ellipsis: of a path the end says more."""
    return "…" + value[-(width - 1) :] if len(value) > width else value
