"""What a check of a dataset is: its words, its severity, and the function that carries it out.

There are three kinds, by what they look at. A *reading* check has no function: the reader itself finds it, and the row
cannot be used. A *pair* check is a function of a batch that returns the indexes of the pairs it names. A *whole* check
is a function of the finished counts.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from dpo_tui.data.checks.pair_columns import PairColumns


class DatasetCounts(Protocol):
    """The finished counts of a scan, as the checks of a whole dataset read them (`dpo_tui.data.scan.totals.Totals`).

    Attributes:
        usable: pairs that can be used.
        distinct_prompts: different prompts.
        sampled: pairs that refusals and openings were counted in.
        chosen_refusals: chosen answers among them that refuse.
        rejected_refusals: rejected answers among them that refuse.
        chosen_longer: pairs whose chosen answer is the longer one.
        rejected_longer: pairs whose rejected answer is.
    """

    usable: int
    distinct_prompts: int
    sampled: int
    chosen_refusals: int
    rejected_refusals: int
    chosen_longer: int
    rejected_longer: int

    def length_effect(self) -> float | None:
        """Cohen's d of the paired difference of log lengths, above 0 if chosen ones are longer; None if undefined."""

    def most_common_opening(self) -> tuple[int, str]:
        """How many prompts begin alike at most, and how they begin."""


Severity = Literal["error", "warning", "info"]
PairCheck = Callable[[PairColumns], Iterable[int]]


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """What a whole check found.

    Args:
        count: how many pairs it is about.
        detail: the figures, in words.
    """

    count: int
    detail: str


WholeCheck = Callable[[DatasetCounts], CheckFinding | None]


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Args:
        id: its name everywhere: in reports, on the command line, in the docs.
        severity: ``error`` if training leaves the row out, ``warning`` if it probably harms, ``info`` if it may be
            meant.
        title: what is wrong, for one line of a report.
        explanation: why that matters for DPO.
        remedy: what to do.
        bit: its place in the flags of a row.
        pair: the function of a pair check.
        whole: the function of a whole check.
    """

    id: str
    severity: Severity
    title: str
    explanation: str
    remedy: str
    bit: int
    pair: PairCheck | None = None
    whole: WholeCheck | None = None
