"""Stopping runs of a group that are clearly behind: successive halving at evaluations. Standard library only.

Successive halving (Jamieson and Talwalkar 2016) in its asynchronous form (Li et al. 2020), which needs no run to wait
for the others: at each rung, a share of a run's steps, a run is compared with those that have come that far. It goes on
if it is in the better half. Here a run of the worse half is stopped only if its held-out accuracy is below the best one
there by more than chance makes of so few pairs (`dpo_tui.runs.comparison_noise.differs`); with few held-out pairs
nothing is stopped, where plain halving would stop runs by noise.
"""

from collections.abc import Sequence
from typing import Any

from dpo_tui.groups.group_status import MemberStatus
from dpo_tui.runs.comparison_noise import ACCURACY, differs
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.held_out_record import held_out_pairs
from dpo_tui.runs.metrics_reader import MetricsTail
from dpo_tui.runs.status import read_progress
from dpo_tui.runs.typed_documents import fits_number

RUNGS = (0.125, 0.25, 0.5)
"""Shares of a run's steps at which it is compared; after the last one it trains to its end."""


class Halving:
    """The comparison at each rung; remembers what it has read."""

    def __init__(self) -> None:
        self._tails: dict[str, MetricsTail] = {}
        self._evaluations: dict[str, list[tuple[int, float]]] = {}

    def behind(self, members: Sequence[MemberStatus]) -> list[tuple[MemberStatus, str]]:
        """The live members that are clearly behind, each with the reason in words."""
        found: dict[int, tuple[MemberStatus, str]] = {}
        for rung in RUNGS:
            arrived = [
                (accuracy, step, one)
                for one in members
                if one.run is not None and (at := self._at(one.run, rung)) is not None
                for step, accuracy in (at,)
            ]
            if len(arrived) < 2:  # noqa: PLR2004 - nobody to be behind of
                continue
            ranked = sorted(arrived, key=lambda item: -item[0])
            best, best_step, leader = ranked[0]
            for accuracy, step, one in ranked[(len(ranked) + 1) // 2 :]:
                pairs, of_best = held_out_pairs(one.run), held_out_pairs(leader.run)
                if one.status != "running" or not pairs or not of_best or not differs(best, of_best, accuracy, pairs):
                    continue
                found[one.member.number] = (
                    one,
                    f"clearly behind (--early-stop-worst): held-out accuracy {accuracy:.2f} at step {step}, "
                    f"where {leader.member.name} had {best:.2f} at step {best_step}, on {pairs:,} pairs",
                )
        return list(found.values())

    def _at(self, run: RunFolder, rung: float) -> tuple[int, float] | None:
        """The first evaluation of a run at or after a rung: step and accuracy; None before it."""
        last = read_progress(run).get("max_steps")
        if last is None or not fits_number(last) or last <= 0:
            return None
        for step, accuracy in self._read(run):
            if step >= rung * last:
                return step, accuracy
        return None

    def _read(self, run: RunFolder) -> list[tuple[int, float]]:
        tail = self._tails.setdefault(run.id, MetricsTail(run.metrics))
        known = self._evaluations.setdefault(run.id, [])
        known += [found for entry in tail.poll() if (found := _evaluation(entry)) is not None]
        return known


def _evaluation(entry: dict[str, Any]) -> tuple[int, float] | None:
    step, accuracy = entry.get("step"), entry.get(ACCURACY)
    if type(step) is int and step > 0 and fits_number(accuracy):
        return step, float(accuracy)  # type: ignore[arg-type]
    return None
