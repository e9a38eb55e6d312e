"""Several runs side by side: the settings in which they differ, and how they ended."""

from collections.abc import Mapping, Sequence
from typing import Any

from dpo_tui.text.numbers import short_number
from dpo_tui.views.chart_registry import BOOK
from dpo_tui.views.run_feed import RunFeed, number

_NOT_TOLD = "—"
_UNTOLD = frozenset({"name"})


def differing(settings: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """(name, a value for each run) of the settings that are not the same in all of them."""
    names = sorted({name for one in settings for name in one} - _UNTOLD)
    rows = []
    for name in names:
        values = [one.get(name) for one in settings]
        if any(value != values[0] for value in values):
            rows.append((name, [_NOT_TOLD if value is None else _written(value) for value in values]))
    return rows


def results(feeds: Sequence[RunFeed]) -> list[tuple[str, list[str]]]:
    """(metric, a last value for each run), in the order of the charts, evaluation twins after their metric."""
    order = [metric for entry in BOOK for metric, _ in entry.metrics]
    present = {name for feed in feeds for name in feed.latest}
    known = [name for metric in order for name in (metric, f"eval_{metric}") if name in present]
    rest = sorted(present - set(known))
    rows = []
    for name in [*known, *rest]:
        values = [number(feed.latest.get(name)) for feed in feeds]
        rows.append((name, [_NOT_TOLD if value is None else short_number(value) for value in values]))
    return rows


def table(heads: Sequence[str], rows: Sequence[tuple[str, list[str]]], width: int) -> list[str]:
    """Lines of a table with a name column and right-aligned values, cut to a width."""
    first = min(max([len(name) for name, _ in rows], default=8), max(width // 3, 8))
    each = max((width - first) // max(len(heads), 1) - 2, 6)
    lines = ["".join([" " * first, *(f"  {head[-each:]:>{each}}" for head in heads)])]
    for name, values in rows:
        cells = (f"  {'…' + value[-(each - 1) :] if len(value) > each else value:>{each}}" for value in values)
        lines.append("".join([f"{name[:first]:<{first}}", *cells]))
    return lines


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return short_number(value) if isinstance(value, float) else str(value)
