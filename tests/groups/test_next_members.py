"""Which members start next, which are behind, and how they rank: from files, without processes."""

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from dpo_tui.groups.driver import Driver
from dpo_tui.groups.early_stop import Halving
from dpo_tui.groups.group_plan import GroupMember, GroupPlan, read_plan
from dpo_tui.groups.group_state import GroupState, read_group_state
from dpo_tui.groups.group_status import BEHIND_REASON, GroupStatus, MemberStatus, group_status
from dpo_tui.groups.group_store import create_group
from dpo_tui.groups.next_members import FILLING_PATIENCE, next_members, to_start_again
from dpo_tui.groups.ranking import rank
from dpo_tui.runs import store
from dpo_tui.runs.devices import DeviceRequest
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.signal_wait import SignalWait
from tests.support.supervised_runs import edit_state

pytestmark = pytest.mark.usefixtures("home")
REQUEST = DeviceRequest(("gpu:0", "gpu:1", "gpu:2", "gpu:3"))


def plan(*reads: str, launcher: str = "local", **fields: Any) -> GroupPlan:
    request = REQUEST if launcher == "local" else None
    members = [
        GroupMember(n, f"m-{n}", {"beta": n / 10}, one, device_request=request, launcher=launcher)
        for n, one in enumerate(reads, 1)
    ]
    return GroupPlan("", "m", members=tuple(members), **fields)


def member(of: GroupPlan, number: int, status: str = "planned", **figures: Any) -> MemberStatus:
    """A member; one that is not planned has a run, with what it has written."""
    one = of.members[number - 1]
    if status == "planned":
        return MemberStatus(one, status)
    run = store.create("", name=one.name, devices=[])
    edit_state(run, status=status if status in ("done", "failed", "stopped") else "queued")
    run.receipt.write_text(json.dumps({"data": {"held_out": figures.pop("pairs", 400), "sha256": "0"}}))
    if step := figures.pop("step", 0):
        accuracy = figures.pop("accuracy", 0.5)
        run.metrics.write_text(json.dumps({"step": step, "eval_rewards/accuracies": accuracy}) + "\n")
        run.progress.write_text(json.dumps({"step": step, "max_steps": 80}))
    live = status in ("queued", "starting", "running")
    return MemberStatus(one, status, run=run, live=live, behind=figures.pop("behind", False))


def started(of: GroupPlan, *members: MemberStatus, again: frozenset[int] = frozenset(), now: float = 0.0) -> list[int]:
    return [one.member.number for one in next_members(of, members, again, now).start]


def test_the_first_run_fills_the_caches_and_the_others_follow_when_it_trains() -> None:
    of = plan(*["a"] * 6)
    planned = [member(of, number) for number in range(2, 7)]
    assert started(of, member(of, 1), *planned) == [1]
    assert started(of, member(of, 1, "starting"), *planned) == []
    assert started(of, member(of, 1, "running", step=1), *planned) == [2, 3, 4, 5], "four GPUs, and one that waits"
    assert started(of, member(of, 1, "failed"), *planned) == [2], "the next one fills them"
    assert started(of, member(of, 1, "done", step=80), *planned) == [2, 3, 4, 5, 6]


def test_jobs_do_not_wait_for_the_first_one_longer_than_it_takes_to_see_that_it_pends() -> None:
    """Else the others of a sweep would come to the end of Slurm's queue hours after the first."""
    of = plan(*["a"] * 20, launcher="slurm")
    planned = [member(of, number) for number in range(2, 21)]
    first = replace(member(of, 1, "queued"), queued_at=1000.0)
    assert started(of, first, *planned, now=1000.0 + FILLING_PATIENCE) == []
    assert started(of, first, *planned, now=1001.0 + FILLING_PATIENCE) == list(range(2, 17)), "sixteen jobs at most"
    assert started(of, replace(first, status="starting"), *planned, now=5000.0) == [], "it fills them just now"
    here = plan("a", "a", "a")
    waiting = replace(member(here, 1, "queued"), queued_at=1000.0)
    assert started(here, waiting, member(here, 2), member(here, 3), now=5000.0) == [], "one queue on this machine"


def test_on_a_full_disk_no_run_is_started_until_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each one that is left fails in its turn."""
    full: list[OSError] = [OSError(errno.ENOSPC, "No space left on device")]
    started_runs: list[RunFolder] = []
    monkeypatch.setattr("dpo_tui.runs.disk_problem.refused_write", lambda folder: full[0] if full else None)
    monkeypatch.setattr("dpo_tui.runs.start_run.start", started_runs.append)
    group = create_group(plan("a", "a"), ["", ""])
    driver = Driver(group, read_plan(group), GroupState(), cast(SignalWait, None))
    assert not driver._advance(driver._look())
    assert read_group_state(group).reason == f"starts no run while its disk is full (ENOSPC): {group.path}"
    assert (group_status(group).counts, started_runs) == ({"planned": 2}, [])
    full.clear()
    assert not driver._advance(driver._look())
    assert read_group_state(group).reason == "" and started_runs == store.all_runs() and len(started_runs) == 1


def test_runs_on_other_data_do_not_wait_for_each_other() -> None:
    of = plan("a", "b", "a", "b")
    assert started(of, *(member(of, number) for number in range(1, 5))) == [1, 2]


def test_a_group_is_over_when_nothing_runs_and_nothing_is_left() -> None:
    of = plan("a", "a")
    assert next_members(of, [member(of, 1, "done"), member(of, 2, "failed")], frozenset(), 0.0).over
    assert not next_members(of, [member(of, 1, "done"), member(of, 2, "running")], frozenset(), 0.0).over
    assert not next_members(of, [member(of, 1, "done"), member(of, 2)], frozenset(), 0.0).over


def test_a_resumed_group_takes_up_what_was_stopped_or_lost_and_failed_ones_only_at_the_end() -> None:
    of = plan(*["a"] * 4)
    done, stopped, lost = member(of, 1, "done"), member(of, 2, "stopped"), member(of, 3, "lost")
    failed = member(of, 4, "failed")
    assert to_start_again([done, stopped, lost, failed]) == {2, 3}
    assert to_start_again([done, failed]) == {4}
    assert to_start_again([done, member(of, 2), failed]) == set()
    assert to_start_again([member(of, 2, "stopped", behind=True), failed]) == {4}
    assert started(of, done, stopped, lost, failed, again=frozenset({2, 3})) == [2]


def test_a_run_that_still_stops_when_its_group_is_resumed_goes_on_once_it_has_ended() -> None:
    of = plan(*["a"] * 2)
    done, stopping, behind = member(of, 1, "done"), member(of, 2, "stopping"), member(of, 2, "stopping", behind=True)
    again = to_start_again([done, stopping])
    assert again == {2} and to_start_again([done, behind]) == set()
    assert started(of, done, stopping, again=again) == [] and not next_members(of, [done, stopping], again, 0.0).over
    assert started(of, done, member(of, 2, "stopped"), again=again) == [2]


def test_a_group_whose_state_was_lost_takes_up_what_was_stopped_but_not_what_was_behind() -> None:
    group = create_group(plan("a", "a", "a"), ["", "", ""])
    for number, reason in ((1, "stopped as asked"), (2, f"stopped: {BEHIND_REASON}: held-out accuracy 0.5 at step 2")):
        belongs = {"id": group.id, "kind": "sweep", "member": number, "values": {}}
        edit_state(store.create("", name=f"m-{number}", devices=[], group=belongs), status="stopped", reason=reason)
    driver = Driver(group, read_plan(group), GroupState(), cast(SignalWait, None))
    members = driver._look()
    assert [(one.status, one.behind) for one in members] == [("stopped", False), ("stopped", True), ("planned", False)]
    assert driver._again == {1}


def behind(*members: MemberStatus) -> list[int]:
    return sorted(one.member.number for one, _ in Halving().behind(members))


def test_only_the_worse_half_is_stopped_and_only_beyond_chance() -> None:
    of = plan(*["a"] * 4)
    best, good = member(of, 1, "running", step=20, accuracy=0.9), member(of, 2, "running", step=20, accuracy=0.6)
    near, worst = member(of, 3, "running", step=20, accuracy=0.88), member(of, 4, "running", step=20, accuracy=0.5)
    assert behind(best, good, near, worst) == [2, 4]
    assert behind(best, near) == [], "0.88 is the worse half, and no more than chance"
    assert behind(best, worst) == [4]
    assert behind(worst) == []
    few = [member(of, number, "running", step=20, accuracy=one, pairs=8) for number, one in ((1, 0.9), (2, 0.5))]
    assert behind(*few) == [], "of eight pairs nothing is clear"


def test_runs_are_compared_at_the_same_share_of_their_steps() -> None:
    of = plan("a", "a")
    early = member(of, 1, "running", step=10, accuracy=0.5)
    late = member(of, 2, "done", step=80, accuracy=0.9)
    assert behind(early, late) == [], "what it had at the end says nothing of its eighth"
    assert late.run
    late.run.metrics.write_text('{"step": 12, "eval_rewards/accuracies": 0.8}\n' + late.run.metrics.read_text())
    assert behind(early, late) == [1], "both have come to the first rung"
    assert behind(member(of, 1, "running", step=9, accuracy=0.5), late) == [], "it has not come to a rung yet"


def test_runs_that_hold_out_other_pairs_are_not_compared() -> None:
    of = plan("a", "b", "a")
    hard, easy = member(of, 1, "running", step=20, accuracy=0.5), member(of, 2, "running", step=20, accuracy=0.9)
    assert behind(hard, easy) == [1]
    assert hard.run and easy.run
    easy.run.config.write_text("seed = 7\n")
    assert behind(hard, easy) == [], "another seed splits the pairs another way"
    also = member(of, 3, "running", step=20, accuracy=0.9)
    assert behind(hard, easy, also) == [1]


def test_a_ranking_says_what_is_noise(tmp_path: Path) -> None:
    of = plan(*["a"] * 4)
    members = (
        member(of, 1, "done", step=80, accuracy=0.55),
        member(of, 2, "done", step=80, accuracy=0.9),
        member(of, 3, "done", step=80, accuracy=0.89),
        member(of, 4),
    )
    ranking = rank(GroupStatus(of, GroupState(), "done", "", members, live=False))
    assert [(one.place, one.number, one.verdict) for one in ranking.runs] == [
        (1, 2, "best"),
        (2, 3, "within chance"),
        (3, 1, "behind"),
        (None, 4, ""),
    ]
    assert "Within chance of m-2: m-3. Which of them is best is not known." in ranking.notes
    assert "Behind m-2 by more than chance makes (95 %): m-1." in ranking.notes
    assert any("β" in note for note in ranking.notes)
    assert rank(GroupStatus(of, GroupState(), "queued", "", (member(of, 4),), live=True)).notes == (
        "No run has been evaluated on held-out rows yet.",
    )
