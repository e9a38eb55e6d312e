"""Rows as the hub's dataset viewer gives them (its API's /first-rows and /rows): ``{"row_idx": 0, "row": {…}}``.

The viewer shortens long texts and lists the columns of these in ``truncated_cells``. A row with a shortened text is no
row of the dataset, so it is left out.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import orjson

from dpo_tui.data.source.json_lines import UNREADABLE_PREFIX

_KEYS = frozenset({"row_idx", "row", "truncated_cells"})
NOTE = "its rows are those of the hub's dataset viewer"


def unwrapped(batches: Iterator[list[bytes]]) -> tuple[Iterator[list[bytes]], bool]:
    """Take rows out of what the viewer puts around them.

    Args:
        batches: rows as JSON, some at a time.

    Returns:
        The rows, and whether they were wrapped.
    """
    first = next((batch for batch in batches if batch), [])
    rows = chain([first], batches)
    if not first or not _is_wrapped(_parsed(first[0])):
        return rows, False
    return ([_row(text) for text in batch] for batch in rows), True


def _is_wrapped(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() <= _KEYS and isinstance(value.get("row"), dict)


def _row(text: bytes) -> bytes:
    value = _parsed(text)
    if not _is_wrapped(value):
        return text
    if cut := value.get("truncated_cells"):
        columns = cut if isinstance(cut, list) else [cut]
        return UNREADABLE_PREFIX + (
            f"the hub's viewer cut {', '.join(map(str, columns))} short: download the dataset itself".encode()
        )
    return orjson.dumps(value["row"])


def _parsed(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
