"""Divide rows, whether they are a list or stored: the same parts, each as the kind of sequence that it came from."""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # numpy and pyarrow are imported for large datasets only
    import numpy as np
    from numpy.typing import NDArray

    from dpo_tui.data.stored.stored_rows import StoredRows

Row = TypeVar("Row")
_BLOCK = 1 << 20
"""Rows whose prompts are looked up at once."""
_PARTS = 16
"""Parts of the keys of prompts in which equal ones are looked for."""


def as_stored(rows: Sequence[Row]) -> "StoredRows[Row] | None":
    """The rows, if they are stored ones; None for a list."""
    if isinstance(rows, list):
        return None
    from dpo_tui.data.stored.stored_rows import StoredRows

    return rows if isinstance(rows, StoredRows) else None


def without(rows: Sequence[Row], places: Collection[int]) -> Sequence[Row]:
    """The rows but for those at some places, counted from 0."""
    return divided(rows, places)[0]


def divided(rows: Sequence[Row], places: Collection[int]) -> tuple[Sequence[Row], Sequence[Row]]:
    """The rows that are not at some places, and those that are, each in their order."""
    stored = as_stored(rows)
    if stored is None:
        chosen = set(places)
        return (
            [row for place, row in enumerate(rows) if place not in chosen],
            [row for place, row in enumerate(rows) if place in chosen],
        )
    import numpy as np

    mask = np.zeros(len(rows), dtype=np.bool_)
    mask[np.fromiter(places, np.int64, len(places))] = True
    return stored.where(~mask), stored.where(mask)


def first_of_shapes(rows: "StoredRows[Any]") -> dict[int, int]:
    """The place of the first row of each shape, by the shape's number; `UNLIKE` is one of them."""
    import numpy as np

    shapes = rows.shapes
    firsts: dict[int, int] = {}
    for start in range(0, len(shapes), _BLOCK):  # `unique` takes three times the memory of what it is given
        numbers, places = np.unique(shapes[start : start + _BLOCK], return_index=True)
        for number, place in zip(numbers.tolist(), places.tolist(), strict=True):
            firsts.setdefault(number, start + place)
    return firsts


def places_where(rows: Sequence[Row], is_so: Callable[[Row], bool]) -> "Sequence[int] | NDArray[np.int64]":
    """The places, in order, of the rows for which something holds that their shape decides.

    Args:
        rows: of stored ones, one of each shape is looked at, and those that are like no other.
        is_so: says whether it holds of a row.
    """
    stored = as_stored(rows)
    if stored is None:
        return [place for place, row in enumerate(rows) if is_so(row)]
    import numpy as np

    shapes = stored.shapes
    wanted = [number for number, place in first_of_shapes(stored).items() if is_so(stored[place])]
    mask = np.isin(shapes, wanted)
    unlike = np.flatnonzero(shapes < 0)
    mask[unlike] = np.fromiter(map(is_so, stored.select(unlike)), np.bool_, len(unlike))
    return np.flatnonzero(mask)


def is_without_text(rows: Sequence[Any]) -> bool:
    """Whether it is known without reading them that no demonstration is plain text."""
    stored = as_stored(rows)
    return stored is not None and stored.column_nulls("text") == len(stored)


def is_without_tools(rows: Sequence[Any]) -> bool:
    """Whether it is known without reading them that no row has tools."""
    stored = as_stored(rows)
    return stored is not None and not stored.known["has_tools"]


def divided_by_key(
    rows: "StoredRows[Row]",
    key_of: Callable[[Any], bytes],
    prompt_of: Callable[[Row], Any],
    fraction: float,
    seed: int,
) -> tuple[Sequence[Row], Sequence[Row]]:
    """Stored rows to train on and to hold out, whole prompts at a time.

    Args:
        rows: all usable rows.
        key_of: returns the key of a prompt, 16 bytes.
        prompt_of: returns the prompt of a row; asked where its cells do not show it.
        fraction: the share of the rows to hold out.
        seed: of the keys.
    """
    import numpy as np

    from dpo_tui.data.stored.hold_out import held_out_places

    keys = rows.prompt_keys(key_of, seed, prompt_of)
    mask = np.zeros(len(rows), dtype=np.bool_)
    mask[held_out_places(keys, fraction)] = True
    return rows.where(~mask), rows.where(mask)


def prompts_in_both(
    rows: "StoredRows[Any]", others: "StoredRows[Any]", key_of: Callable[[Any], bytes], seed: int
) -> "NDArray[np.bool_]":
    """For each of some rows whether one of the others has its prompt.

    Args:
        rows: some rows.
        others: the others.
        key_of: returns the key of a prompt, 16 bytes.
        seed: of the keys, which are kept for a seed.
    """
    import numpy as np

    def halves(some: "StoredRows[Any]") -> Any:
        return np.ascontiguousarray(some.prompt_keys(key_of, seed)).view([("a", "<u8"), ("b", "<u8")]).ravel()

    mine, theirs = halves(rows), halves(others)
    known = np.sort(mine["a"])
    shared: set[tuple[int, int]] = set()
    # The first halves are looked up in those of the fewer rows, block by block: sorting all would take a multiple of
    # their memory. Hashes of different prompts that agree there are distinguished by the second halves.
    for start in range(0, len(theirs) if len(mine) else 0, _BLOCK):
        block = theirs[start : start + _BLOCK]
        places = np.minimum(np.searchsorted(known, block["a"]), len(known) - 1)
        shared.update(block[known[places] == block["a"]].tolist())
    return np.array([one in shared for one in mine.tolist()], dtype=bool)


def different_rows(rows: "StoredRows[Any]", key_of: Callable[[Any], bytes], seed: int) -> tuple[int, int]:
    """How many rows differ from all others, for rows that have a prompt.

    Args:
        rows: the rows.
        key_of: returns the key of a prompt, 16 bytes.
        seed: of the keys, which are kept for a seed.

    Returns:
        The number by their conversations, and the number by these and by their labels where rows have labels.
    """
    import numpy as np

    keys = rows.prompt_keys(key_of, seed).view("<u8").reshape(-1, 2)
    labels = rows.labels if "desirable" in rows.columns.names else np.zeros(len(rows), dtype=np.bool_)
    # In parts, since sorting copies what it compares several times.
    parts = (keys[:, 0] % _PARTS).astype(np.uint8)
    contents = with_labels = 0
    for part in range(_PARTS):
        places = np.flatnonzero(parts == part)
        _, numbers, counts = np.unique(keys[places], axis=0, return_inverse=True, return_counts=True)
        # Only rows of one prompt can be copies: the others need not be read.
        several = places[counts[numbers.ravel()] > 1]
        alone = len(places) - len(several)
        hashes = rows.select(several).content_hashes().view("<u8").reshape(-1, 2)
        different, numbers = np.unique(hashes, axis=0, return_inverse=True)
        contents += alone + len(different)
        with_labels += alone + len(np.unique(2 * numbers.ravel() + labels[several]))
    return contents, with_labels
