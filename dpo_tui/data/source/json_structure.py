"""Find the brackets and commas of JSON in blocks of bytes, without parsing it.

Only quotes, backslashes, brackets and commas matter for that. numpy finds them a block at a time, so memory stays
constant whatever the size of the document.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_QUOTE, _BACKSLASH = 34, 92
_IS_SPECIAL = np.zeros(256, dtype=bool)
_IS_SPECIAL[[_QUOTE, _BACKSLASH, *b",{}[]"]] = True
_DEPTH_CHANGE = np.zeros(256, dtype=np.int64)
_DEPTH_CHANGE[list(b"{[")] = 1
_DEPTH_CHANGE[list(b"}]")] = -1


class Brackets(NamedTuple):
    """The brackets and commas of a block that are outside texts.

    Args:
        offsets: their offsets in the block.
        codes: the bytes.
        changes: 1 for an opening bracket, -1 for a closing one, 0 for a comma.
        depths: the depth of nesting after each.
    """

    offsets: NDArray[np.int64]
    codes: NDArray[np.uint8]
    changes: NDArray[np.int64]
    depths: NDArray[np.int64]


class JsonStructure:
    """Finds brackets and commas, and keeps the state between blocks."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escape_next = False

    def feed(self, block: bytes) -> Brackets:
        """The brackets and commas of the next block."""
        data = np.frombuffer(block, dtype=np.uint8)
        places = np.flatnonzero(_IS_SPECIAL[data])
        codes = data[places]
        escaped = self._escaped(places[codes == _BACKSLASH], len(block))
        is_quote = codes == _QUOTE
        quotes = places[is_quote]
        quotes = quotes[~escaped[quotes]]
        structure = places[~is_quote & (codes != _BACKSLASH)]
        # A byte is inside a string if an odd number of unescaped quotes comes before it.
        inside = (np.searchsorted(quotes, structure) + int(self._in_string)) % 2 == 1
        self._in_string = bool((len(quotes) + int(self._in_string)) % 2)
        structure = structure[~inside]
        kinds = data[structure]
        changes = _DEPTH_CHANGE[kinds]
        depths = self._depth + np.cumsum(changes)
        if len(depths):
            self._depth = int(depths[-1])
        return Brackets(structure, kinds, changes, depths)

    def _escaped(self, slashes: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
        """Which bytes of a block a backslash escapes: those after the first, third … of a run of backslashes.

        One more entry than bytes: the last says whether the first byte of the next block is escaped.
        """
        marked = np.zeros(size + 1, dtype=bool)
        marked[0] = self._escape_next
        if len(slashes):
            starts = np.ones(len(slashes), dtype=bool)
            starts[1:] = np.diff(slashes) != 1
            run = np.cumsum(starts) - 1
            first = np.flatnonzero(starts)
            rank = np.arange(len(slashes)) - first[run]
            if self._escape_next and slashes[0] == 0:
                rank[run == 0] += 1  # the first backslash is itself escaped by the last block
            marked[slashes[rank % 2 == 0] + 1] = True
        self._escape_next = bool(marked[size])
        return marked
