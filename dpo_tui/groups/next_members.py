"""Which members of a group start next: the one decision of its driver, a function of the plan and of its runs.

Standard library only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dpo_tui.groups.group_plan import GroupPlan
from dpo_tui.groups.group_status import PLANNED, MemberStatus
from dpo_tui.runs.folder import RunFolder

FILLING_PATIENCE = 60.0
"""Seconds for which a job may pend before the members that read the same data are submitted beside it.

Slurm's queue takes hours, and each job is older in it, and so sooner its turn, the earlier it is submitted: to wait
there once more costs more than to tokenise and to score the reference beside each other.
"""


@dataclass(frozen=True)
class NextMembers:
    """The decision.

    Args:
        start: the members whose runs are started or resumed now, in their order.
        over: whether nothing runs, and nothing is left to start.
    """

    start: tuple[MemberStatus, ...]
    over: bool


def next_members(plan: GroupPlan, members: Sequence[MemberStatus], again: frozenset[int], now: float) -> NextMembers:
    """Decide.

    As many members are started as may be live at once. Of members that read the same data only one is started until it
    trains: it fills the caches of tokens and reference scores, which the others would else compute beside it. A job
    that pends in Slurm's queue is waited for no longer than `FILLING_PATIENCE`.

    Args:
        plan: what was asked for.
        members: all of them, as they are now.
        again: numbers of members whose ended runs are to be resumed.
        now: Unix time.
    """
    live = [one for one in members if one.run is not None and not one.over]
    left = [
        one
        for one in members
        if one.status == PLANNED or (one.member.number in again and one.over and one.status != "done")
    ]
    filled = {one.member.reads for one in members if one.run is not None and has_filled_caches(one.run)}
    filled |= {one.member.reads for one in live if _pends_long(one, now)}
    filling = {one.member.reads for one in live} - filled
    start: list[MemberStatus] = []
    for one in left:
        if len(live) + len(start) >= plan.bound:
            break
        if one.member.reads in filling:
            continue
        start.append(one)
        if one.member.reads not in filled:
            filling.add(one.member.reads)
    return NextMembers(tuple(start), not live and not left)


def _pends_long(one: MemberStatus, now: float) -> bool:
    """Whether a member is a job that has been pending for so long that none waits for it."""
    pends = one.member.launcher == "slurm" and one.status == "queued"
    return pends and now - one.queued_at > FILLING_PATIENCE


def has_filled_caches(run: RunFolder) -> bool:
    """Whether a run has come so far that its tokens and reference scores are kept: it has evaluated or trained."""
    try:
        return run.metrics.stat().st_size > 0
    except OSError:
        return False


def to_start_again(members: Sequence[MemberStatus]) -> frozenset[int]:
    """The members that a driver takes up again when a group is resumed: numbers.

    Runs that were stopped or lost go on; those that were stopped as clearly behind do not. Failed ones are tried again
    only if nothing else is left, since most fail again.
    """
    # One that is still stopping is taken up once it has ended: the request came before the group was resumed.
    unfinished = [one for one in members if one.status in ("stopped", "stopping", "lost") and not one.behind]
    planned = any(one.status == PLANNED for one in members)
    live = any(one.live for one in members)
    if not (unfinished or planned or live):
        unfinished = [one for one in members if one.failed]
    return frozenset(one.member.number for one in unfinished)
