"""How often a judge model contradicts itself when the order of the answers is swapped.

Judge models favour an answer for its position (Zheng et al. 2023, arXiv 2306.05685): a verdict counts only if both
orders agree on it, and the disagreements are reported as position bias.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dpo_tui.judging.judges.judge import Comparison, Side


@dataclass
class PositionBias:
    """Disagreements of a judge model with itself when the order of the answers is swapped.

    Attributes:
        asked: number of pairs judged.
        contradicted: pairs on which the two orders gave different winners.
        first: contradictions in which the answer shown first won both times.
        unread: replies without a verdict in them, of two a pair.
    """

    asked: int = 0
    contradicted: int = 0
    first: int = 0
    unread: int = 0

    @staticmethod
    def of(comparisons: Iterable[Comparison]) -> "PositionBias":
        """Count the comparisons for which a model was asked in both orders; others are passed over."""
        bias = PositionBias()
        for comparison in comparisons:
            if (replies := comparison.details.get("orders")) is not None:
                bias.add(replies, comparison.verdict)
        return bias

    def add(self, replies: Sequence[str | None], verdict: Side) -> None:
        """Count one pair by its two replies; see :func:`verdict_of`."""
        self.asked += 1
        self.unread += replies.count(None)
        if verdict == "tie" and None not in replies and list(replies) != ["C", "C"]:
            self.contradicted += 1
            self.first += list(replies) == ["A", "A"]

    def summary(self) -> str:
        """Return how far the judge model can be trusted, as a sentence."""
        if not self.asked:
            return "The judge model was asked nothing."
        return (
            f"Asked in both orders, the judge model contradicted itself on {self.contradicted} of {self.asked} pairs "
            f"(counted as ties), {self.first} times in favour of the answer shown first; {self.unread} replies had no "
            "verdict."
        )


def verdict_of(left_first: str | None, right_first: str | None) -> Side:
    """Return the verdict that two replies make, with the left answer shown first and with the right one shown first.

    Args:
        left_first: A or B for the answer shown first or second, C for neither, None for no verdict.
        right_first: likewise, with the answers swapped.

    Returns:
        A side only where both orders agree on it.
    """
    if (left_first, right_first) == ("A", "B"):
        return "left"
    if (left_first, right_first) == ("B", "A"):
        return "right"
    return "tie"
