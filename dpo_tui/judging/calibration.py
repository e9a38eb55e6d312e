"""Agreement of a judge with a person, beyond what chance gives: Cohen's κ with its 95 % interval. Stdlib only."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dpo_tui.judging.judges.judge import Side
from dpo_tui.judging.win_rate import wilson

FEWEST_PAIRS = 20
"""Below, an interval of κ spans most of its range."""
FAIR_KAPPA = 0.4
"""Up to 0.4 agreement is no more than fair (Landis and Koch 1977, doi 10.2307/2529310)."""
_Z = 1.959964
"""Quantile of the standard normal distribution for a two-sided 95 % interval."""
_SIDES: tuple[Side, ...] = ("left", "right", "tie")


@dataclass(frozen=True)
class Calibration:
    """How far a judge agrees with a person.

    Attributes:
        pairs: number of pairs that both judged.
        agreed: of them, those with the same verdict.
        kappa: Cohen's κ, 1 for full agreement and 0 for that of chance; None for too few pairs, and where both gave one
            and the same verdict on all of them, which leaves it undefined.
        interval: 95 % interval of κ; None where κ is.
    """

    pairs: int
    agreed: int
    kappa: float | None
    interval: tuple[float, float] | None

    @property
    def warning(self) -> str:
        """Why the judge is not to be trusted, as a sentence; empty where nothing speaks against it."""
        if self.pairs < FEWEST_PAIRS:
            return f"κ is stated from {FEWEST_PAIRS} pairs on; {FEWEST_PAIRS - self.pairs} more are needed."
        if self.kappa is None or self.interval is None:
            return "Both gave the same verdict on every pair, so that nothing tells agreement from chance."
        if self.kappa < FAIR_KAPPA:
            return f"κ is below {FAIR_KAPPA}: this judge does not stand in for the person."
        if self.interval[0] <= 0:
            return "The interval includes 0: the agreement may be chance. Judge more pairs."
        return ""

    def summary(self) -> str:
        """Return the agreement and what follows from it, as sentences."""
        agreed = f"The judge agrees with the person on {self.agreed} of {self.pairs} pairs"
        if self.kappa is None or self.interval is None:
            return f"{agreed}. {self.warning}"
        low, high = self.interval
        return f"{agreed}: Cohen's κ {self.kappa:.2f} (95 % interval {low:.2f} to {high:.2f}). {self.warning}".rstrip()


def calibrate(verdicts: Sequence[tuple[Side, Side]]) -> Calibration:
    """Compare verdicts of a person and of a judge on the same pairs.

    κ = (p_o − p_e) / (1 − p_e), with the share p_o of equal verdicts and the share p_e that two independent judges with
    these frequencies would have (Cohen 1960, doi 10.1177/001316446002000104). Its standard error, for large samples, is
    that of Fleiss, Cohen and Everitt (1969, doi 10.1037/h0028106); the interval is κ ± 1.96 of it, within −1 and 1.
    Where all verdicts agree, or none, that error is 0 whatever the number of pairs: there the interval is that of p_o
    by Wilson, put into the formula of κ.

    Args:
        verdicts: of the person and of the judge, a pair each.
    """
    n = len(verdicts)
    agreed = sum(person == judge for person, judge in verdicts)
    if n < FEWEST_PAIRS:
        return Calibration(n, agreed, None, None)
    counts = Counter(verdicts)
    of_person = {side: sum(counts[side, other] for other in _SIDES) / n for side in _SIDES}
    of_judge = {side: sum(counts[other, side] for other in _SIDES) / n for side in _SIDES}
    observed = agreed / n
    by_chance = sum(of_person[side] * of_judge[side] for side in _SIDES)
    rest = 1 - by_chance
    if math.isclose(rest, 0, abs_tol=1e-12):
        return Calibration(n, agreed, None, None)
    kappa = round((observed - by_chance) / rest, 12)  # 0.4 is not below 0.4
    if agreed in (0, n):
        low, high = ((bound - by_chance) / rest for bound in wilson(agreed, n))
        return Calibration(n, agreed, kappa, (max(-1.0, low), min(1.0, high)))
    same = sum(
        counts[side, side] / n * (rest - (of_person[side] + of_judge[side]) * (1 - observed)) ** 2 for side in _SIDES
    )
    different = sum(
        counts[person, judge] / n * (of_judge[person] + of_person[judge]) ** 2
        for person in _SIDES
        for judge in _SIDES
        if person != judge
    )
    variance = same + (1 - observed) ** 2 * different - (observed * by_chance - 2 * by_chance + observed) ** 2
    half = _Z * math.sqrt(max(0.0, variance) / n) / rest**2
    return Calibration(n, agreed, kappa, (max(-1.0, kappa - half), min(1.0, kappa + half)))
