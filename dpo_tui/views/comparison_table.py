"""The comparison of several runs as a table: the settings in which they differ, and their latest metrics."""

from collections.abc import Mapping, Sequence
from typing import Any

from dpo_tui.text.numbers import short_number
from dpo_tui.views.chart_registry import CHARTS
from dpo_tui.views.run_feed import RunFeed, finite_number

_ABSENT = "—"
_IGNORED = frozenset({"name"})
"""Settings that differ between any two runs."""


def differing(settings: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """The settings that are not the same in all runs.

    Args:
        settings: the config of each run, by setting.

    Returns:
        (name, its value in each run), sorted by name.
    """
    names = sorted({name for config in settings for name in config} - _IGNORED)
    rows = []
    for name in names:
        values = [config.get(name) for config in settings]
        if any(value != values[0] for value in values):
            rows.append((name, [_ABSENT if value is None else _value_text(value) for value in values]))
    return rows


def results(feeds: Sequence[RunFeed]) -> list[tuple[str, list[str]]]:
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


def table(heads: Sequence[str], rows: Sequence[tuple[str, list[str]]], width: int) -> list[str]:
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


def _value_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return short_number(value) if isinstance(value, float) else str(value)


def _end_of(value: str, width: int) -> str:
    """A value, or its last characters behind an ellipsis: of a path the end says more."""
    return "…" + value[-(width - 1) :] if len(value) > width else value
