"""One part of the GPU benchmark while it runs: its time budget, and the results that it writes as they come."""

import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ERROR_CHARACTERS = 300
_DRY_LIMIT = 900.0


class NotMeasured(Exception):
    """A row cannot be measured on this machine; the message says what it needs."""


class NotBuilt(Exception):
    """dpo-tui lacks the feature that a row would measure; the message names it."""


@dataclass(frozen=True)
class Part:
    """One part of the benchmark.

    Attributes:
        letter: short name, as in ``--parts a,b``.
        name: long name, which ``--parts`` takes too.
        title: heading of its table.
        meaning: what its figures mean, printed above the table.
        seconds: its share of the default time budget, and what it is expected to take on an H100.
        measure: does the work; runs in a process of its own. A module-level function.
    """

    letter: str
    name: str
    title: str
    meaning: str
    seconds: float
    measure: "Callable[[Session], None]"


class Session:
    """What a part's ``measure`` gets.

    Args:
        letter: of the part.
        results: JSON lines file that every row is appended to.
        scratch: folder for models, data and runs; deleted at the end.
        seconds: time budget. The part's process is killed when it is used up.
        dry: tiny sizes on the CPU, to see that the program runs; the figures mean nothing.
    """

    def __init__(self, letter: str, results: Path, scratch: Path, seconds: float, *, dry: bool) -> None:
        self.letter = letter
        self.results = results
        self.scratch = scratch
        self.dry = dry
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self._end - time.monotonic()

    def limit(self, seconds: float) -> float:
        """Return how long something may take that takes so many seconds at most on a GPU; a busy processor is slow."""
        return _DRY_LIMIT if self.dry else max(0.0, min(seconds, self.left()))

    def write(self, row: str, **figures: Any) -> None:
        """Append a row to the results file."""
        append(self.results, {"part": self.letter, "row": row, **figures})

    def measure(self, row: str, function: Callable[[], Mapping[str, Any]], *, needs: float = 0.0) -> None:
        """Measure one row and write it; an exception becomes the row's error, and the part goes on.

        Args:
            row: its name.
            function: returns the row's figures. May raise NotMeasured or NotBuilt.
            needs: seconds that the row is expected to take on a GPU; it is left out where fewer are left.
        """
        if not self.dry and self.left() < needs:
            self.write(row, not_measured=f"no time: {self.left():.0f} s left, about {needs:.0f} s needed")
            return
        began = time.monotonic()
        try:
            figures = dict(function())
        except NotMeasured as reason:
            self.write(row, not_measured=str(reason))
        except NotBuilt as reason:
            self.write(row, not_built=str(reason))
        except Exception as error:
            traceback.print_exc()
            sys.stderr.flush()
            self.write(row, error=in_words(error), seconds=round(time.monotonic() - began, 1))
        else:
            self.write(row, **figures, seconds=round(time.monotonic() - began, 1))


def append(results: Path, line: Mapping[str, Any]) -> None:
    """Append one JSON line by a single write, so that a killed process leaves whole lines."""
    with results.open("ab", buffering=0) as file:
        file.write((json.dumps(line, default=str) + "\n").encode())


def in_words(error: BaseException) -> str:
    """Return an exception's type and its first line, cut to a table's width."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:ERROR_CHARACTERS]
