"""The file and the row in it that a row number of a dataset of several files stands for."""

import bisect
import os
from collections.abc import Sequence
from pathlib import Path


class RowPlaces:
    """Names rows of a dataset: its rows are numbered through all of its files.

    Args:
        files: the paths of the files, in order.
        first_rows: for each, how many rows come before it; fewer while files are still being read. Also an attribute.
    """

    def __init__(self, files: Sequence[Path], first_rows: Sequence[int]) -> None:
        self.first_rows = first_rows
        names = [path.name for path in files]
        if len(set(names)) < len(names):
            common = os.path.commonpath([path.absolute().parent for path in files])
            names = [os.path.relpath(path.absolute(), common) for path in files]
        self._names = names

    def of(self, row: int) -> str:
        """The file and the row in it, such as ``b.jsonl row 3``; empty for a dataset of one file.

        Args:
            row: number in the dataset, from 1.
        """
        if len(self._names) < 2 or not self.first_rows:  # noqa: PLR2004
            return ""
        at = max(bisect.bisect_right(self.first_rows, row - 1) - 1, 0)
        return f"{self._names[at]} row {row - self.first_rows[at]}"

    def label(self, row: int) -> str:
        """The number of a row, and its place where there are several files: ``row 12 (b.jsonl row 3)``."""
        place = self.of(row)
        return f"row {row} ({place})" if place else f"row {row}"
