"""What a check of a dataset is: its id, its severity, its texts, and the function that carries it out.

There are three kinds, by who carries them out:

- a *scan check* has no function: the reader finds unusable rows, and the comparison of all rows finds duplicates;
- a *pair check* is a function of a batch of pairs that returns the indexes of the pairs it flags;
- a *dataset check* is a function of the finished counts. It flags no rows.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from dpo_tui.data.checks.pair_columns import PairColumns


class DatasetCounts(Protocol):
    """The finished counts of a scan, as dataset checks read them (`dpo_tui.data.scan.totals.Totals`).

    Attributes:
        usable: pairs that can be used.
        distinct_prompts: different prompts.
        sampled: pairs in which refusals and openings were counted.
        chosen_refusals: chosen answers among them that are refusals.
        rejected_refusals: rejected answers among them that are refusals.
        chosen_longer: pairs whose chosen answer is the longer one.
        rejected_longer: pairs whose rejected answer is the longer one.
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
        """The most common opening of prompts: how many of the sampled prompts begin with it, and its text."""


Severity = Literal["error", "warning", "info"]
PairCheck = Callable[[PairColumns], Iterable[int]]


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """What a dataset check found.

    Args:
        count: how many pairs it concerns.
        detail: the numbers behind it, as a sentence without a full stop.
    """

    count: int
    detail: str


DatasetCheck = Callable[[DatasetCounts], CheckFinding | None]


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Args:
        id: its name in reports, on the command line and in the docs.
        severity: ``error`` if training leaves the row out, ``warning`` if it probably harms, ``info`` if it may be
            intended.
        title: what is wrong, for one line of a report.
        explanation: why that matters for DPO.
        remedy: what to do.
        bit: its bit in the flags of a row. Flags are stored in the cache, so the bit of a check never changes.
        find_pairs: the function of a pair check.
        judge_dataset: the function of a dataset check.
        leaves_out: training leaves the rows out although nothing is wrong with them.
        in_app: what to do in the app, by its keys, where ``remedy`` names options of the command line.
    """

    id: str
    severity: Severity
    title: str
    explanation: str
    remedy: str
    bit: int
    find_pairs: PairCheck | None = None
    judge_dataset: DatasetCheck | None = None
    leaves_out: bool = False
    in_app: str = ""

    @property
    def is_left_out(self) -> bool:
        """Whether training leaves the rows out that it flags."""
        return self.leaves_out or self.severity == "error"

    @property
    def flags_rows(self) -> bool:
        """Whether its bit is set in the flags of rows: not for a dataset check."""
        return self.judge_dataset is None
