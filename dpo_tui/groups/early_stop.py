"""Stopping runs of a group that are clearly behind: successive halving at evaluations. Standard library only.

Successive halving (Jamieson and Talwalkar 2016) in its asynchronous form (Li et al. 2020), which needs no run to wait
for the others: at each rung, a share of a run's steps, a run is compared with those that have come that far. It goes on
if it is in the better half. Here a run of the worse half is stopped only if its held-out accuracy is below the best one
there by more than chance makes of so few pairs (`dpo_tui.runs.comparison_noise.differs`); with few held-out pairs
nothing is stopped, where plain halving would stop runs by noise. Runs that hold out different pairs are not compared.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from dpo_tui.groups.group_status import BEHIND_REASON, MemberStatus
from dpo_tui.runs.comparison import held_out_key
from dpo_tui.runs.comparison_noise import ACCURACY, differs
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.frozen_config import read_settings
from dpo_tui.runs.held_out_record import held_out_pairs
from dpo_tui.runs.metrics_reader import MetricsTail
from dpo_tui.runs.status import read_progress
from dpo_tui.runs.typed_documents import fits_number

RUNGS = (0.125, 0.25, 0.5, 1.0)
"""Shares of a run's steps. At each but the last it is compared by its first evaluation from there up to the next one:
an evaluation beyond it says nothing of a run that has not come so far."""


class Halving:
    """The comparison at each rung; remembers what it has read."""

    def __init__(self) -> None:
        self._tails: dict[str, MetricsTail] = {}
        self._evaluations: dict[str, list[tuple[int, float]]] = {}
        self._keys: dict[str, tuple[Any, ...]] = {}

    def behind(self, members: Sequence[MemberStatus]) -> list[tuple[MemberStatus, str]]:
        """The live members that are clearly behind, each with the reason in words."""
        found: dict[int, tuple[MemberStatus, str]] = {}
        for arrived in self._arrived(members):
            ranked = sorted(arrived, key=lambda item: -item[0])
            best, best_step, leader = ranked[0]
            for accuracy, step, one in ranked[(len(ranked) + 1) // 2 :]:
                pairs, of_best = held_out_pairs(one.run), held_out_pairs(leader.run)
                if one.status != "running" or not pairs or not of_best or not differs(best, of_best, accuracy, pairs):
                    continue
                found[one.member.number] = (
                    one,
                    f"{BEHIND_REASON}: held-out accuracy {accuracy:.2f} at step {step}, "
                    f"where {leader.member.name} had {best:.2f} at step {best_step}, on {pairs:,} pairs",
                )
        return list(found.values())

    def _arrived(self, members: Sequence[MemberStatus]) -> Iterator[list[tuple[float, int, MemberStatus]]]:
        """Accuracy and step of those that have come to a rung, for each rung and each set of held-out pairs."""
        pairs = {one.member.number: self._pairs(one.run) for one in members if one.run is not None}
        for rung, following in pairwise(RUNGS):
            together: dict[tuple[Any, ...], list[tuple[float, int, MemberStatus]]] = {}
            for one in members:
                key = pairs.get(one.member.number)
                if one.run is None or key is None or (at := self._at(one.run, rung, following)) is None:
                    continue
                together.setdefault(key, []).append((at[1], at[0], one))
            yield from together.values()

    def _pairs(self, run: RunFolder) -> tuple[Any, ...] | None:
        """What tells its held-out pairs from others; None where it is not known yet."""
        if run.id not in self._keys and (key := held_out_key(run, read_settings(run.config))) is not None:
            self._keys[run.id] = key
        return self._keys.get(run.id)

    def _at(self, run: RunFolder, rung: float, following: float) -> tuple[int, float] | None:
        """The first evaluation of a run from a rung on and before the next: step and accuracy; None without one."""
        last = read_progress(run).get("max_steps")
        if last is None or not fits_number(last) or last <= 0:
            return None
        for step, accuracy in self._read(run):
            if rung * last <= step < following * last:
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
