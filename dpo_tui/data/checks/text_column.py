"""A column of texts with their lengths and hashes, which are cheapest to take while a text is still in the cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TextColumn:
    """Some texts.

    Args:
        texts: in order.
        lengths: characters of each.
        hashes: Python's own hash of each; equal between processes that share PYTHONHASHSEED.
    """

    texts: list[str]
    lengths: NDArray[np.int64]
    hashes: NDArray[np.int64]

    @classmethod
    def of(cls, texts: list[str]) -> "TextColumn":
        """Measure some texts."""
        count = len(texts)
        return cls(
            texts,
            np.fromiter(map(len, texts), dtype=np.int64, count=count),
            np.fromiter(map(hash, texts), dtype=np.int64, count=count),
        )

    @classmethod
    def joined(cls, parts: Sequence["TextColumn"]) -> "TextColumn":
        """Put some columns one below the other."""
        if len(parts) == 1:
            return parts[0]
        none = np.zeros(0, dtype=np.int64)
        return cls(
            list(chain.from_iterable(part.texts for part in parts)),
            np.concatenate([none, *(part.lengths for part in parts)]),
            np.concatenate([none, *(part.hashes for part in parts)]),
        )

    def at(self, places: NDArray[np.int64]) -> "TextColumn":
        """Some of them."""
        return TextColumn([self.texts[at] for at in places.tolist()], self.lengths[places], self.hashes[places])

    def __len__(self) -> int:
        return len(self.texts)
