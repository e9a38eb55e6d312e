"""Ranks: the processes of a run that trains on several devices, their heartbeats, and how the run ended as a whole.

Rank 0 writes the run folder. Rank N > 0 writes only its output into ``ranks/N.log``. Every rank writes
``ranks/N.json``: its heartbeat, and how it ended, since torchrun answers 1 whatever a rank's exit code was.

Standard library only.
"""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from dpo_tui.errors import RunError
from dpo_tui.runs.atomic_files import read_json, write_json_atomic
from dpo_tui.runs.exit_codes import DONE, FAILED, STOPPED, WorkerEnd
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.line_log import flush_with_patience
from dpo_tui.runs.process import host_name, process_start
from dpo_tui.runs.typed_documents import wrong_field

RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
"""Environment variables that torchrun and other launchers set for each rank."""

_HEARTBEAT_SECONDS = 1.0
"""Least time between two heartbeats of the same phase."""
_ALIVE_SECONDS = 5.0
"""Time between two heartbeats of a process that reports no progress, as while it waits for the others."""


@dataclass(frozen=True)
class Rank:
    """Identity of one process among those of a run.

    Args:
        rank: from 0, over all machines.
        local_rank: from 0, on this machine.
        world_size: number of ranks.
    """

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Rank":
        """Read RANK, LOCAL_RANK and WORLD_SIZE; without them this is the only process.

        Raises:
            RunError: one of them is no number, or the three do not fit together.
        """
        values = {name: environment.get(name, default) for name, default in zip(RANK_VARIABLES, "001", strict=True)}
        if all(value.isdigit() for value in values.values()):
            found = cls(*map(int, values.values()))
            if found.rank < found.world_size and found.local_rank <= found.rank:
                return found
        shown = ", ".join(f"{name}={value}" for name, value in values.items())
        raise RunError(f"the environment gives this process no possible rank: {shown}", hint="Unset these variables.")

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes the run folder."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether this is the only rank."""
        return self.world_size == 1


@dataclass(frozen=True)
class RankReport:
    """The contents of ``ranks/N.json``; times are Unix seconds, by the clock of the rank's machine.

    Args:
        rank: and ``local_rank``, ``world_size``: see `Rank`.
        host: where it runs, and its ``pid`` there.
        start: its start in clock ticks after boot, which distinguishes it from a later process with the same pid.
        t: its last heartbeat.
        phase: its phase at that time, and the last training ``step`` done; ``None`` before the first.
        code: its exit code as in `dpo_tui.runs.exit_codes`; ``None`` while it runs, and for good if it was killed.
        message: why it failed, and ``hint``: what to do.
        peer_lost: whether it failed only because another rank ended.
        ended_at: when it ended.
        node: the node of a job on which it runs, as Slurm names it; empty outside of one.
        memory_gb: most memory that its GPU had reserved so far, in decimal gigabytes; None without a GPU.
    """

    rank: int
    local_rank: int = 0
    world_size: int = 1
    host: str = ""
    pid: int = 0
    start: int | None = None
    t: float = 0.0
    phase: str = ""
    step: int | None = None
    code: int | None = None
    message: str = ""
    hint: str = ""
    peer_lost: bool = False
    ended_at: float | None = None
    node: str = ""
    memory_gb: float | None = None


class RankReporter:
    """The only writer of a rank's ``ranks/N.json``. A run with a single process has no such file.

    Args:
        folder: the run.
        rank: this process.
    """

    def __init__(self, folder: RunFolder, rank: Rank) -> None:
        self._folder = folder
        self._alone = rank.is_alone
        pid, node = os.getpid(), os.environ.get("SLURMD_NODENAME", "")
        self._report = RankReport(**asdict(rank), host=host_name(), pid=pid, start=process_start(pid), node=node)
        # Of the monotonic clock: with the other one set back, this rank would seem to hang.
        self._beat_at = float("-inf")
        # Two threads write: the one that works, and the one of `beat_in_background`.
        self._lock = threading.Lock()

    def beat_in_background(self) -> None:
        """Write a heartbeat every few seconds from a thread, until this rank ends.

        A rank may wait for minutes while another evaluates, or load a library, and is alive all the while. A process
        that is stopped or stuck in the kernel writes none.
        """
        if not self._alone:
            threading.Thread(target=self._beat_repeatedly, daemon=True, name="heartbeat").start()

    def _beat_repeatedly(self) -> None:
        while True:
            with self._lock:
                if self._report.code is not None:
                    return
                if time.monotonic() - self._beat_at >= _ALIVE_SECONDS:
                    self._beat()
            time.sleep(_HEARTBEAT_SECONDS)

    def heartbeat(self, phase: str, step: int | None = None) -> None:
        """Record that this rank is alive: at each change of phase, else at most once a second.

        A heartbeat that cannot be written does not end the rank: the next one tries again.
        """
        beat_lately = time.monotonic() - self._beat_at < _HEARTBEAT_SECONDS
        if self._alone or (phase == self._report.phase and beat_lately):
            return
        with self._lock:
            self._beat(phase=phase, step=self._report.step if step is None else step)

    def memory(self, gigabytes: float) -> None:
        """Note the most memory that this rank's GPU had reserved so far; the next heartbeat writes it."""
        with self._lock:
            self._report = replace(self._report, memory_gb=round(gigabytes, 2))

    def ended(self, code: int, message: str = "", hint: str = "", *, peer_lost: bool = False) -> None:
        """Record how this rank ended; waits for space on a full disk, since the supervisor has no other source."""
        if self._alone:
            return
        now = time.time()
        with self._lock:
            self._report = replace(
                self._report, t=now, code=code, message=message, hint=hint, peer_lost=peer_lost, ended_at=now
            )
        # Without the lock, which a full disk would hold for minutes: the thread of the heartbeats ends as soon as it
        # sees the code, and writes nothing more.
        flush_with_patience(self._write, self._folder.path)

    def _beat(self, **changes: Any) -> None:
        """Write a heartbeat, with what has changed besides; the caller has the lock."""
        self._beat_at = time.monotonic()
        self._report = replace(self._report, t=time.time(), **changes)
        self._write()

    def _write(self) -> bool:
        try:
            self._folder.ranks.mkdir(exist_ok=True)
            write_json_atomic(self._folder.rank_report(self._report.rank), asdict(self._report), durable=False)
        except OSError:
            return False
        return True


def read_reports(folder: RunFolder) -> list[RankReport]:
    """The reports of the current attempt, in the order of the ranks; torn and foreign files are skipped."""
    found: list[RankReport] = []
    known = {item.name for item in fields(RankReport)}
    for path in folder.ranks.glob("*.json"):
        document = read_json(path)
        if document is None or not path.stem.isdecimal() or document.get("rank") != int(path.stem):
            continue
        if not wrong_field(RankReport, document):
            found.append(RankReport(**{key: value for key, value in document.items() if key in known}))
    return sorted(found, key=lambda report: report.rank)


def delete_reports(folder: RunFolder) -> None:
    """Delete the reports of an earlier attempt; a launcher calls it before it starts ranks."""
    for path in folder.ranks.glob("*.json"):
        with suppress(OSError):
            path.unlink()


class RankWatch:
    """Finds a rank that hangs, by its heartbeat.

    Heartbeats are compared with each other and not with a clock: a machine that was suspended, or whose disk was full,
    is late with all of them.

    Args:
        silence: seconds without a new heartbeat after which a rank hangs, if another rank has had one meanwhile.
    """

    def __init__(self, silence: float) -> None:
        self.silence = silence
        self._seen: dict[int, tuple[float, float]] = {}

    def hung(self, reports: Sequence[RankReport], now: float) -> RankReport | None:
        """The rank that hangs, the longest silent first; ``None`` while none does.

        Args:
            reports: from `read_reports`.
            now: of the monotonic clock, in seconds.
        """
        for report in reports:
            if report.rank not in self._seen or self._seen[report.rank][0] != report.t:
                self._seen[report.rank] = (report.t, now)
        running = [report for report in reports if report.code is None]
        if not running or len(running) < len(reports):
            return None  # one has ended, which torchrun notices
        # Against the newest heartbeat and not against now: a suspended machine or a full disk stops all of them.
        by_silence = sorted(running, key=lambda report: self._seen[report.rank][1])
        silent_since, newest = self._seen[by_silence[0].rank][1], self._seen[by_silence[-1].rank][1]
        return by_silence[0] if newest - silent_since >= self.silence else None


def end_of_ranks(reports: Sequence[RankReport], world_size: int) -> WorkerEnd:
    """Determine how the worker ended from its ranks' reports: the first failure counts, not those that it caused.

    Args:
        reports: from `read_reports`, after all ranks have ended.
        world_size: number of ranks that were started.

    Returns:
        In this order: the rank that failed first for its own reason, with its code; a rank that left no exit code, as
        one that was killed, before one that never wrote; the first that failed because it lost a peer; stopped if any
        was; done.
    """
    failed = sorted(
        (report for report in reports if report.code not in (None, DONE, STOPPED)),
        key=lambda report: report.ended_at or 0.0,
    )
    by_rank = {report.rank: report for report in reports}
    # A rank that was killed had begun; one without a report was still starting when it was ended for the other's sake.
    silent = [rank for rank in sorted(by_rank) if by_rank[rank].code is None]
    silent += [rank for rank in range(world_size) if rank not in by_rank]
    for report in (report for report in failed if not report.peer_lost):
        return _failure(report)
    if silent:
        return WorkerEnd(FAILED, _without_exit_code(silent[0], by_rank.get(silent[0])))
    for report in failed:
        return _failure(report)
    return WorkerEnd(STOPPED if any(report.code == STOPPED for report in reports) else DONE)


def _failure(report: RankReport) -> WorkerEnd:
    reason = f"rank {report.rank}: {report.message or f'ended with exit code {report.code}'}"
    return WorkerEnd(FAILED if report.code is None else report.code, f"{reason}\n{report.hint}".rstrip())


def _without_exit_code(rank: int, report: RankReport | None) -> str:
    log = f"ranks/{rank}.log" if rank else "train.log"
    if report is None:
        return f"rank {rank} ended before it wrote anything\n{log} may say why"
    step = "" if report.step is None else f", step {report.step}"
    where = report.node or report.host
    return f"rank {rank} on {where} was killed or crashed (phase {report.phase}{step})\n{log} may say why"
