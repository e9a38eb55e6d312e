"""The ranks of a run that is trained by several processes: who is which, and what each says of itself.

Rank 0 writes the run folder. Rank N > 0 writes only its output into ``ranks/N.log``. Every rank writes
``ranks/N.json``: its heartbeat, and how it ended, since torchrun answers 1 whatever a rank's exit code was.

Standard library only.
"""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace

from dpo_tui.errors import RunError
from dpo_tui.runs.atomic_files import read_json, write_json_atomic
from dpo_tui.runs.exit_codes import DONE, FAILED, STOPPED, WorkerEnd
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.full_disk import flush_with_patience
from dpo_tui.runs.process import host_name

RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
"""What torchrun, and whatever else starts ranks, sets for each of them."""

_HEARTBEAT_SECONDS = 1.0
"""How often ``ranks/N.json`` is replaced at most."""


@dataclass(frozen=True)
class Rank:
    """Which of a run's processes this one is.

    Args:
        rank: from 0, over all machines.
        local_rank: from 0, on this machine.
        world_size: how many ranks there are.
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
        told = ", ".join(f"{name}={value}" for name, value in values.items())
        raise RunError(f"the environment gives this process no possible rank: {told}", hint="Unset these variables.")

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes the run folder."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other rank."""
        return self.world_size == 1


@dataclass(frozen=True)
class RankReport:
    """The contents of ``ranks/N.json``; times are Unix seconds, by the clock of the rank's machine.

    Args:
        rank: and ``local_rank``, ``world_size``: see `Rank`.
        host: where it runs, and its ``pid`` there.
        t: its last sign of life.
        phase: what it was doing then, and the training ``step`` that it had done; ``None`` before the first.
        code: how it ended, as in `dpo_tui.runs.exit_codes`; ``None`` while it runs, and for ever if it was killed.
        message: why it failed, and ``hint``: what to do.
        peer_lost: whether it failed only because another rank went away.
        ended_at: when it ended.
    """

    rank: int
    local_rank: int = 0
    world_size: int = 1
    host: str = ""
    pid: int = 0
    t: float = 0.0
    phase: str = ""
    step: int | None = None
    code: int | None = None
    message: str = ""
    hint: str = ""
    peer_lost: bool = False
    ended_at: float | None = None


class RankReporter:
    """The one writer of a rank's ``ranks/N.json``. A run of a single process has none, and then nothing is written.

    Args:
        folder: the run.
        rank: this process.
    """

    def __init__(self, folder: RunFolder, rank: Rank) -> None:
        self._folder = folder
        self._alone = rank.is_alone
        self._report = RankReport(**asdict(rank), host=host_name(), pid=os.getpid())

    def heartbeat(self, phase: str, step: int | None = None) -> None:
        """Say that this rank lives, at most once a second, and at each change of phase.

        A disk that refuses is no reason to end: the next heartbeat tries again.
        """
        now = time.time()
        if self._alone or (phase == self._report.phase and now - self._report.t < _HEARTBEAT_SECONDS):
            return
        self._report = replace(self._report, t=now, phase=phase, step=self._report.step if step is None else step)
        self._write()

    def ended(self, code: int, message: str = "", hint: str = "", *, peer_lost: bool = False) -> None:
        """Say how this rank ended; waits for room on a full disk, since nothing else tells the supervisor."""
        if self._alone:
            return
        now = time.time()
        self._report = replace(
            self._report, t=now, code=code, message=message, hint=hint, peer_lost=peer_lost, ended_at=now
        )
        flush_with_patience(self._write, self._folder.path)

    def _write(self) -> bool:
        try:
            self._folder.ranks.mkdir(exist_ok=True)
            write_json_atomic(self._folder.rank_report(self._report.rank), asdict(self._report), durable=False)
        except OSError:
            return False
        return True


def read_reports(folder: RunFolder) -> list[RankReport]:
    """What the ranks of the current attempt say of themselves, in their order; torn and foreign files are left out."""
    found: list[RankReport] = []
    known = {item.name for item in fields(RankReport)}
    for path in folder.ranks.glob("*.json"):
        document = read_json(path)
        if path.stem.isdigit() and document is not None and document.get("rank") == int(path.stem):
            found.append(RankReport(**{key: value for key, value in document.items() if key in known}))
    return sorted(found, key=lambda report: report.rank)


def forget_reports(folder: RunFolder) -> None:
    """Remove what the ranks of an earlier attempt said; whoever starts ranks calls it before."""
    for path in folder.ranks.glob("*.json"):
        with suppress(OSError):
            path.unlink()


def end_of_ranks(reports: Sequence[RankReport], world_size: int) -> WorkerEnd:
    """How the whole worker ended, from what all its ranks say: the first failure counts, not those that follow from it.

    Args:
        reports: from `read_reports`, after all ranks have ended.
        world_size: how many ranks were started.

    Returns:
        In this order: the rank that failed first by its own doing, with its code; a rank that ended without a word,
        as one that was killed does; the first that lost a peer; stopped if any was; done.
    """
    failed = sorted(
        (report for report in reports if report.code not in (None, DONE, STOPPED)),
        key=lambda report: report.ended_at or 0.0,
    )
    by_rank = {report.rank: report for report in reports}
    silent = [rank for rank in range(world_size) if rank not in by_rank or by_rank[rank].code is None]
    for report in (report for report in failed if not report.peer_lost):
        return _failure(report)
    if silent:
        return WorkerEnd(FAILED, _silent(silent[0], by_rank.get(silent[0])))
    for report in failed:
        return _failure(report)
    return WorkerEnd(STOPPED if any(report.code == STOPPED for report in reports) else DONE)


def _failure(report: RankReport) -> WorkerEnd:
    reason = f"rank {report.rank}: {report.message or f'ended with exit code {report.code}'}"
    return WorkerEnd(FAILED if report.code is None else report.code, f"{reason}\n{report.hint}".rstrip())


def _silent(rank: int, report: RankReport | None) -> str:
    log = f"ranks/{rank}.log" if rank else "train.log"
    if report is None:
        return f"rank {rank} ended before it wrote anything\n{log} may say why"
    step = "" if report.step is None else f", step {report.step}"
    return f"rank {rank} on {report.host} was killed or crashed (phase {report.phase}{step})\n{log} may say why"
