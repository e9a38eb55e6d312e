"""The launcher of several processes on this machine: torchrun starts them, one a GPU or ``ranks`` of them on the CPU.

Between supervisor and ranks is torchrun's agent. It answers 1 whatever the exit code of a rank was, so how the ranks
ended is read from their own reports (`dpo_tui.runs.ranks`), and a rank that hangs is found by its heartbeat: torchrun
notices only processes that have ended. Standard library only.
"""

import os
import signal
import sys
import time
from contextlib import suppress

from dpo_tui.runs.exit_codes import FAILED, WorkerEnd
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers.launcher import Command, Worker
from dpo_tui.runs.launchers.local import LocalLauncher, LocalWorker
from dpo_tui.runs.launchers.worker_environment import worker_environment
from dpo_tui.runs.line_log import seconds_from
from dpo_tui.runs.process import host_name, is_same_process
from dpo_tui.runs.ranks import RankReport, RankWatch, delete_reports, end_of_ranks, read_reports
from dpo_tui.runs.state import State, read_state
from dpo_tui.text.durations import duration

_SILENCE_VARIABLE = "DPO_TUI_RANK_SILENCE"
_SILENCE = 120.0
"""Seconds without a heartbeat, while another rank has one, after which a rank is taken to hang."""
_CHECK_SECONDS = 1.0
"""Seconds between two looks at the heartbeats."""
_KILL_ALL_SECONDS = 60.0
"""Seconds in which torchrun has ended: after a hung rank was killed, or all ranks have ended. Then all are killed."""


class TorchrunLauncher(LocalLauncher):
    """Starts as many processes of the worker as the run's state says."""

    def stop_unsupervised(self, folder: RunFolder, state: State, *, now: bool, again: bool) -> None:
        """Signal the agent, which passes SIGTERM on; at a second request also kill the ranks, which SIGKILL spares."""
        super().stop_unsupervised(folder, state, now=now, again=again)
        if now and again:
            for report in read_reports(folder):
                _kill(report)

    def prepare(self, folder: RunFolder, state: State, worker_argv: list[str]) -> Command:
        """The agent's command, which ends with the supervisor, around the command of one worker."""
        delete_reports(folder)
        environment = worker_environment(state)
        # torchrun would set 1; unset, every process would start a thread for each core of the machine.
        environment.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // state.ranks)))
        if sys.platform == "linux":
            # gloo takes the interface that the machine's name resolves to, and in containers it often resolves to none.
            environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
        ends_with_supervisor = [sys.executable, "-P", "-m", "dpo_tui.runs.launchers.end_with_parent"]
        return Command([*ends_with_supervisor, *self.agent(state, worker_argv)], environment)

    def agent(self, state: State, worker_argv: list[str]) -> list[str]:
        """The command that starts the ranks, each as ``worker_argv``."""
        # Standalone: a rendezvous of this run alone on a free port of the loopback interface, so that runs side by
        # side do not meet, and nothing depends on how the machine's name resolves.
        options = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(state.ranks), "--no-python"]
        return [worker_argv[0], "-P", "-m", "torch.distributed.run", *options, *worker_argv]

    def start(self, folder: RunFolder, command: Command) -> Worker:
        """Start the agent."""
        state = read_state(folder)
        return TorchrunWorker(folder, command, state.ranks if state else 1)


class TorchrunWorker(LocalWorker):
    """The agent and its ranks.

    SIGTERM to the agent is passed on to the ranks, which are sessions of their own, beyond the agent's process group.

    Args:
        folder: the run.
        command: from the launcher.
        world_size: number of ranks.
    """

    def __init__(self, folder: RunFolder, command: Command, world_size: int) -> None:
        super().__init__(folder, command)
        self._world_size = world_size
        self._watch = RankWatch(seconds_from(_SILENCE_VARIABLE, _SILENCE))
        self._hung: RankReport | None = None
        self._next_check = 0.0
        self._kill_all_at: float | None = None
        self._ranks_ended = False

    def poll(self) -> int | None:
        """The agent's exit code; while it lives, end a rank that hangs, after which the agent ends the others."""
        returncode = super().poll()
        now = time.monotonic()
        if returncode is None and now >= self._next_check:
            self._next_check = now + _CHECK_SECONDS
            self._check_ranks(now)
        return returncode

    def kill(self) -> None:
        """SIGKILL to the agent and to every rank: a rank that hangs does not react when the agent dies."""
        super().kill()
        for report in read_reports(self.folder):
            _kill(report)

    def end(self, returncode: int) -> WorkerEnd:
        """How the ranks ended by their own reports; without any, what the agent's exit code and output say."""
        if self._hung is not None:
            silence = duration(self._watch.silence)
            return WorkerEnd(
                FAILED, f"{_place(self._hung)} hung: no sign of life for {silence}\n{_log_hint(self._hung)}"
            )
        reports = read_reports(self.folder)
        # Where somebody killed the agent the ranks may not have ended yet: they save on their way out.
        if (returncode < 0 and not self._ranks_ended) or not reports:
            return super().end(returncode)
        return end_of_ranks(reports, self._world_size)

    def _check_ranks(self, now: float) -> None:
        if self._kill_all_at is not None:
            if now >= self._kill_all_at:
                self._kill_all_at = None
                self.kill()
            return
        reports = read_reports(self.folder)
        if len(reports) == self._world_size and all(report.code is not None for report in reports):
            self._ranks_ended = True
            self._kill_all_at = now + seconds_from(_SILENCE_VARIABLE, _KILL_ALL_SECONDS)
            return
        self._hung = self._watch.hung(reports, now)
        if self._hung is not None:
            # Its peers wait for it in a collective. With its connections gone they fail, and the agent ends them.
            self._kill_all_at = now + _KILL_ALL_SECONDS
            self.end_hung(self._hung)

    def end_hung(self, report: RankReport) -> None:
        """End a rank that hangs."""
        _kill(report)


def _kill(report: RankReport) -> None:
    if report.host == host_name() and is_same_process(report.pid, report.start):
        with suppress(OSError):
            os.kill(report.pid, signal.SIGKILL)


def _place(report: RankReport) -> str:
    step = "" if report.step is None else f", step {report.step}"
    return f"rank {report.rank} on {report.node or report.host} (phase {report.phase}{step})"


def _log_hint(report: RankReport) -> str:
    return f"{f'ranks/{report.rank}.log' if report.rank else 'train.log'} may say why"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
