"""Several ranks, with stand-ins for torchrun and for the ranks: one is killed or hangs, or what started them dies."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from benchmarks.fault_kinds.commands import in_child
from benchmarks.fault_kinds.follow_up import finish, json_status, look
from benchmarks.fault_kinds.kind import fault_kind
from benchmarks.fault_kinds.machine_identity import edit_state
from benchmarks.fault_kinds.processes import Process, send
from benchmarks.fault_kinds.stage import ROOT, Stage, lock_owner
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers import registry

_SUPPORT = ROOT / "tests" / "support"
# Commands are forks of this process, and must know the launcher that the supervisor registers.
registry.LAUNCHERS["ranks"] = "tests.support.ranks_launcher:RanksLauncher"


def begin_ranks(stage: Stage, count: int, *options: str) -> RunFolder:
    """Start a run of several ranks, under a supervisor that knows the stand-in for torchrun."""
    text = stage.config_text()
    run = RunFolder(in_child(lambda: store.create(text, name="ranks", devices=[]).path))
    edit_state(run, launcher="ranks", ranks=count)
    stage.runs.append(run)
    _supervise(run, options)
    stage.until(lambda: len(ranks_of(stage, run)) == count, "all ranks")
    return run


def _supervise(run: RunFolder, options: tuple[str, ...]) -> None:
    rank = [sys.executable, str(_SUPPORT / "standin_ranks.py"), "rank", str(run.path), *options]
    command = [sys.executable, str(_SUPPORT / "ranks_launcher.py"), str(run.path), "--", *rank]

    def begin() -> None:
        with open(os.devnull, "r+b") as nothing:
            subprocess.Popen(command, start_new_session=True, stdin=nothing, stdout=nothing, stderr=nothing)

    in_child(begin)


def ranks_of(stage: Stage, run: RunFolder) -> list[Process]:
    """The ranks that live and have reported that they train."""
    found = [one for one in stage.processes() if "standin_ranks.py rank" in one.command]
    reported = [path for path in run.ranks.glob("*.json") if '"train"' in path.read_text(encoding="utf-8")]
    return [one for one in found if not _is_agent(one)] if len(reported) == len(_ranks_only(found)) else []


def _is_agent(process: Process) -> bool:
    return "standin_ranks.py agent" in process.command or process.is_supervisor


def _ranks_only(found: list[Process]) -> list[Process]:
    return [one for one in found if not _is_agent(one)]


@fault_kind("kill-rank", "SIGKILL to one of two to four ranks")
def kill_rank(stage: Stage) -> None:
    """The others end, and the reason names the rank that was killed."""
    count = stage.rng.randint(2, 4)
    run = begin_ranks(stage, count, "--hold")
    ranks = ranks_of(stage, run)
    victim = stage.rng.choice(ranks)
    number = _rank_number(victim)
    send(victim.pid, signal.SIGKILL)
    look(stage, run, ["failed"], (f"rank {number}",))
    _again(stage, run)


@fault_kind("hang-rank", "SIGSTOP to one of two ranks, for longer than a rank may be silent")
def hang_rank(stage: Stage) -> None:
    """It is killed and named; the other one does not wait for ever."""
    os.environ["DPO_TUI_RANK_SILENCE"] = "6"
    run = begin_ranks(stage, 2, "--hold")
    victim = stage.rng.choice(ranks_of(stage, run))
    number = _rank_number(victim)
    send(victim.pid, signal.SIGSTOP)
    look(stage, run, ["failed"], (f"rank {number}",))
    _again(stage, run)


@fault_kind("kill-agent", "SIGKILL to what has started the ranks, to the supervisor, or to both")
def kill_agent(stage: Stage) -> None:
    """No rank lives on, and the status says what was killed."""
    run = begin_ranks(stage, stage.rng.randint(2, 3), "--hold")
    agent = next(one for one in stage.processes() if "standin_ranks.py agent" in one.command and not one.is_supervisor)
    supervisor = stage.supervisor_pid(run)
    how = stage.rng.choice(("agent", "supervisor", "both"))
    for pid in {"agent": [agent.pid], "supervisor": [supervisor], "both": [supervisor, agent.pid]}[how]:
        send(pid, signal.SIGKILL)
    expected = ["failed"] if how == "agent" else ["lost", "failed"]
    look(stage, run, expected, ("SIGKILL", "killed"))
    _again(stage, run)


def _rank_number(process: Process) -> int:
    environment = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    return int(next(one for one in environment if one.startswith(b"RANK=")).partition(b"=")[2])


def _again(stage: Stage, run: RunFolder) -> None:
    """Supervise the run again: ranks that are not held end as done."""
    stage.until(lambda: not stage.processes(), "all ranks to end", 30)
    _supervise(run, ())
    stage.until(lambda: json_status(run) == "done" and lock_owner(run.lock) is None, "the run to be done", 30)
    finish(stage)
