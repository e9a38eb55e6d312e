"""The driver: one small process a group that outlives the terminal, starts its runs one after the other, and records.

    python -m dpo_tui.groups.driver GROUP_DIR

It holds the group's lock while it lives. Runs are handed to the queue a few at a time (`GroupPlan.bound`), and each has
a supervisor of its own: when the driver is killed they go on, and only no other one starts. Which run is which member
stands in the run's state.json from its first moment, so a driver that was killed between making a run and writing that
down finds it again, and none is made twice. Standard library only.
"""

import json
import os
import sys
import time
from pathlib import Path

from dpo_tui.errors import DpoTuiError, RunError
from dpo_tui.groups import early_stop
from dpo_tui.groups.driver_record import LOCK_DELETED, DriverRecord
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_plan import GroupPlan, read_plan
from dpo_tui.groups.group_requests import PAUSE, STOP, STOP_NOW, clear_requests, is_requested
from dpo_tui.groups.group_state import GroupState, read_group_state
from dpo_tui.groups.group_status import REFUSED, REMOVED, MemberStatus, member_status, runs_of
from dpo_tui.groups.next_members import next_members, to_start_again
from dpo_tui.runs import control_requests, disk_problem, run_lock, start_run
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.frozen_run import create_frozen
from dpo_tui.runs.process import boot_id, host_name, process_start
from dpo_tui.runs.signal_wait import SignalWait
from dpo_tui.runs.state_writer import log_to_stderr

REFUSED_GROUP = 4
"""The driver's exit code when it cannot take the group."""

_POLL = 0.5
"""Seconds between two looks at the runs; the end of a run's supervisor wakes the driver by SIGCHLD."""
_NAMED = 3
"""Failed runs that the reason of the end names at most."""


def main(argv: list[str]) -> int:
    """Drive a group until nothing of it is left to run.

    Args:
        argv: the group's folder.

    Returns:
        0 when the group's end is recorded, whatever it was; `REFUSED_GROUP` when it was not taken.
    """
    folder = GroupFolder(Path(argv[0]))
    signals = SignalWait()  # before the lock: SIGHUP must not end a process that has it
    try:
        if not run_lock.acquire(folder.lock):
            raise RunError(f"group {folder.id} has a driver already, process {run_lock.owner(folder.lock)}")
        plan, state = read_plan(folder), read_group_state(folder)
    except (RunError, OSError) as error:
        sys.stderr.write(f"{error.message if isinstance(error, RunError) else error}\n")
        return REFUSED_GROUP
    Driver(folder, plan, state, signals).run()
    return 0


class Driver:
    """The driver of one group, whose lock this process holds.

    Args:
        folder: the group.
        plan: what to train.
        state: as an earlier driver left it.
        signals: wakes on signals.
    """

    def __init__(self, folder: GroupFolder, plan: GroupPlan, state: GroupState, signals: SignalWait) -> None:
        self._folder, self._plan, self._signals = folder, plan, signals
        self._runs = runs_of(folder.id)
        self._record = DriverRecord(folder, state)
        self._asked_now = False
        self._halving = early_stop.Halving()
        if plan.argv:  # of the command that made the group, whoever has resumed it
            os.environ[start_run.ARGV_VARIABLE] = json.dumps(plan.argv)
        # A group whose state was lost has runs all the same.
        resumed = state.driver_pid is not None or bool(self._runs)
        # A refused start is tried again: the disk may have room by now.
        self._record.update(
            status="queued",
            reason="",
            driver_pid=os.getpid(),
            driver_start=process_start(os.getpid()),
            host=host_name(),
            boot_id=boot_id(),
            started_at=state.started_at or time.time(),
            ended_at=None,
            runs=state.runs | {str(number): run.id for number, run in self._runs.items()},
            refused={},
        )
        self._again = to_start_again(self._look()) if resumed else frozenset[int]()
        self._record.event("resumed" if resumed else "started", f"drives {len(plan.members)} runs", pid=os.getpid())

    def run(self) -> None:
        """Start runs until none is left, or until asked to stop, and record the end.

        Without its lock it ends and records nothing: another driver may have taken the group.
        """
        while True:
            if not run_lock.is_in_place(self._folder.lock):
                log_to_stderr(LOCK_DELETED)
                return
            members = self._look()
            if self._signals.terminated:
                self._end(
                    "stopped", "its driver was asked to end, as when the box shuts down; its runs are not stopped"
                )
                return
            if is_requested(self._folder, STOP) or is_requested(self._folder, STOP_NOW):
                if self._stop(members):
                    return
            elif self._advance(members):
                return
            self._signals.wait(_POLL)

    def _look(self) -> list[MemberStatus]:
        return [member_status(member, self._record.state, self._folder.id, self._runs) for member in self._plan.members]

    def _advance(self, members: list[MemberStatus]) -> bool:
        """Start what may start now; return whether the group is over."""
        if self._plan.early_stop:
            self._stop_those_behind(members)
        now = next_members(self._plan, members, self._again, time.time())
        if now.over:
            self._record_over(members)
            return True
        if (waits := self._waits(bool(now.start))) and not any(one.live for one in members):
            self._record.update(status="queued", reason=waits)
            return False
        self._record.update(status="running", reason=waits)
        for one in () if waits else now.start:
            self._start(one)
        return False

    def _waits(self, one_may_start: bool) -> str:
        """Why no run is started now; empty where one may be, and where none is to be started."""
        if is_requested(self._folder, PAUSE):
            return f"paused; `dpo-tui queue unpause {self._folder.id}` lets it start runs"
        begin = self._plan.not_before
        if begin is not None and time.time() < begin:
            return f"starts no run before {time.strftime('%Y-%m-%d %H:%M', time.localtime(begin))}"
        # Every run that is left would fail the same way, one after the other.
        if one_may_start and (refused := disk_problem.refused_write(self._folder.path)) is not None:
            return f"starts no run while {disk_problem.problem(refused)}: {self._folder.path}"
        return ""

    def _start(self, one: MemberStatus) -> None:
        """Start a member's run, or resume it; one that cannot be started does not keep the others from it."""
        number, key = one.member.number, str(one.member.number)
        self._again -= {number}
        try:
            if one.run is not None and one.run.path.is_dir():
                start_run.resume(one.run)
                self._record.event("resumed-run", f"run {one.run.id} ({one.member.name}) goes on", run=one.run.id)
                return
            belongs = {
                "id": self._folder.id,
                "kind": self._plan.kind,
                "member": number,
                "values": one.member.values,
            }
            run = create_frozen(one.member.frozen(self._folder), one.member.name, group=belongs)
            self._runs[number] = run
            self._record.update(runs=self._record.state.runs | {key: run.id})
            start_run.start(run)
        except (DpoTuiError, OSError) as error:
            reason = error.message if isinstance(error, DpoTuiError) else str(error)
            self._record.update(refused=self._record.state.refused | {key: reason})
            self._record.event("refused", f"{one.member.name} cannot be started: {reason}", member=number)
            return
        self._record.event("started-run", f"run {run.id} ({one.member.name})", run=run.id, member=number)

    def _stop_those_behind(self, members: list[MemberStatus]) -> None:
        for one, reason in self._halving.behind(members):
            if one.run is None or str(one.member.number) in self._record.state.behind:
                continue
            # Written down first: a driver that is killed in between has a run that is not taken for behind while it
            # runs, and the other way round the stopped run would be resumed.
            self._record.update(behind=self._record.state.behind | {str(one.member.number): reason})
            try:
                control_requests.request_stop(one.run, reason=reason)
            except RunError:
                continue  # it has just ended by itself
            self._record.event("behind", f"{one.member.name} {reason}", run=one.run.id, member=one.member.number)

    def _stop(self, members: list[MemberStatus]) -> bool:
        """Pass a request to stop on to all live runs; return whether all of them have ended."""
        at_once = is_requested(self._folder, STOP_NOW)
        if self._record.state.status != "stopping" or at_once != self._asked_now:
            self._asked_now = at_once
            self._record.update(status="stopping", reason="asked to stop at once" if at_once else "asked to stop")
            self._record.event("stopping", self._record.state.reason)
            # Those that wait before those that run, or one would take the place of a run that has just stopped.
            for one in sorted(members, key=lambda one: one.status != "queued"):
                if one.run is not None and not one.over:
                    _request_stop(one.run, at_once)
        if any(one.run is not None and not one.over for one in members):
            return False
        self._end("stopped", "stopped as asked")
        return True

    def _record_over(self, members: list[MemberStatus]) -> None:
        failed = [one for one in members if one.failed]
        parts = []
        if failed:
            names = ", ".join(one.member.name for one in failed[:_NAMED])
            more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
            parts.append(f"{len(failed)} of {len(members)} runs failed: {names}{more}")
        if behind := sum(one.behind for one in members):
            parts.append(f"{behind} stopped as clearly behind")
        if stopped := sum(one.status == "stopped" and not one.behind for one in members):
            parts.append(f"{stopped} stopped")
        if removed := sum(one.status == REMOVED for one in members):
            parts.append(f"{removed} deleted")
        if refused := [one for one in failed if one.status == REFUSED]:
            parts.append(refused[0].reason)
        self._end("failed" if failed else "done", "; ".join(parts))

    def _end(self, status: str, reason: str) -> None:
        clear_requests(self._folder)
        self._record.update(status=status, reason=reason, ended_at=time.time())
        self._record.event(status, reason or status)
        self._record.settle()


def _request_stop(run: RunFolder, at_once: bool) -> None:
    try:
        control_requests.request_stop(run, now=at_once)
    except RunError:
        return  # it has just ended by itself


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
