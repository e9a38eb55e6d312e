"""A run's job: its id, what Slurm last said about it, and both in words. Standard library only.

Two files of the run folder. ``job.json`` is written once for each submission, by the process that submits. What Slurm
said is a cache, ``job-status.json``, which any reader may replace by a newer answer, as
`dpo_tui.runs.launchers.slurm_refresh` does.
"""

import re
import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

from dpo_tui.runs.atomic_files import read_json, write_json_atomic
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.frozen_config import read_settings
from dpo_tui.runs.launchers.slurm_commands import QueueEntry
from dpo_tui.runs.typed_documents import wrong_field
from dpo_tui.text.durations import duration

UNKNOWN_STATE = "UNKNOWN"
"""The state of a job that Slurm no longer knows."""

_PENDING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
)
_OVER = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
        UNKNOWN_STATE,
    }
)
_PENDING_REASONS = {
    "BadConstraints": "no node has what it asks for",
    "BeginTime": "Slurm lets it start only after a while, as after each requeue",
    "Cleaning": "its earlier start is still being cleaned up",
    "Dependency": "it waits for the job of the run before it",
    "DependencyNeverSatisfied": "the job that it waits for will not end as it must",
    "JobHeldAdmin": "an administrator holds it",
    "JobHeldUser": "it is held; `scontrol release` lets it go",
    "Licenses": "it waits for licences",
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions": (
        "the nodes that it needs are down, drained or reserved"
    ),
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition is inactive",
    "PartitionNodeLimit": "it asks for more than its partition allows",
    "PartitionTimeLimit": "it asks for more time than its partition allows",
    "Priority": "jobs of higher priority come first",
    "ReqNodeNotAvail": "the nodes that it needs are down, drained or reserved",
    "Reservation": "it waits for its reservation",
    "Resources": "it waits for free resources",
}
_LIMIT = re.compile(r"^(QOS|Assoc)")
_DISTANT = 30 * 86_400.0
"""Seconds from which on an expected start is not worth a number: for jobs without a time limit Slurm assumes a year."""
_LOG_TAIL = 1 << 14
_OVER_MEMORY = "it used more than its main memory"
_MEMORY_WORDS = re.compile(r"exceeded memory limit|oom[-_ ]kill", re.IGNORECASE)


@dataclass(frozen=True)
class JobReport:
    """What was last known about a job.

    Args:
        id: of the job.
        state: as Slurm spells it.
        reason: as Slurm spells it.
        start: Unix time of its start, expected while it is pending.
        node: its first node.
        t: when Slurm said so, or was last asked in vain.
        error: why it could not be asked then; empty if it was.
        confirmed: whether two answers in a row had this state. A job that is queued again has for a moment the state of
            one that is over, and nobody asks again about what is over.
    """

    id: str
    state: str
    reason: str = ""
    start: float | None = None
    node: str = ""
    t: float = 0.0
    error: str = ""
    confirmed: bool = False

    @classmethod
    def of(cls, entry: QueueEntry, now: float) -> "JobReport":
        """The report of an entry of the queue."""
        return cls(entry.id, entry.state, entry.reason, entry.start, entry.node, now)

    @property
    def ended(self) -> bool:
        """Whether the state is one of a job that is over; it may be queued again the next moment."""
        return self.state in _OVER

    @property
    def phase(self) -> Literal["pending", "running", "over"]:
        """What the state means for a run."""
        return "pending" if self.state in _PENDING else "over" if self.ended and self.confirmed else "running"

    def to_document(self) -> dict[str, Any]:
        """The object that ``job-status.json`` holds."""
        return asdict(self)


def write_job(folder: RunFolder, job: str, now: float) -> None:
    """Record the submission of a run.

    Raises:
        OSError: it could not be written.
    """
    write_report(folder, JobReport(job, "PENDING"))  # as of time 0: the first reader asks Slurm
    write_json_atomic(folder.job, {"id": job, "submitted_at": now})


def job_id(folder: RunFolder) -> str | None:
    """The id of the run's newest job; None before its submission."""
    document = read_json(folder.job)
    job = str(document.get("id")) if document else ""
    return job if job.isascii() and job.isdigit() else None


def write_report(folder: RunFolder, report: JobReport) -> None:
    """Replace what is known about a job.

    Raises:
        OSError: it could not be written.
    """
    write_json_atomic(folder.job_status, report.to_document(), durable=False)


def read_report(folder: RunFolder) -> JobReport | None:
    """What was last known about the run's newest job; None before its submission."""
    job = job_id(folder)
    if job is None:
        return None
    document = read_json(folder.job_status) or {}
    if document.get("id") != job:
        return JobReport(job, "PENDING")  # the cache was lost, or is of an earlier job
    known = {name: document[name] for name in JobReport.__dataclass_fields__ if name in document}
    if "state" not in known or wrong_field(JobReport, known):
        return JobReport(job, "PENDING")
    return JobReport(**known)


def describe_pending(report: JobReport, now: float | None = None) -> str:
    """Why a job has not started, and when Slurm expects it to start."""
    now = time.time() if now is None else now
    text = f"job {report.id} waits in Slurm's queue"
    if report.reason:
        # "ReqNodeNotAvail, UnavailableNodes:n[1-2]"
        name = report.reason.partition(",")[0]
        meaning = _PENDING_REASONS.get(report.reason) or _PENDING_REASONS.get(name)
        if meaning is None and _LIMIT.match(name):
            meaning = f"a limit of its {'quality of service' if name.startswith('QOS') else 'account'} is reached"
        text += f": {meaning} ({report.reason})" if meaning else f": {report.reason}"
    if report.start is not None and now < report.start < now + _DISTANT:
        text += f"; Slurm expects it to start in {duration(report.start - now)}"
    return text + _age(report, now)


def describe_running(report: JobReport, now: float | None = None) -> str:
    """Where a job runs whose supervisor has not written anything yet."""
    now = time.time() if now is None else now
    where = f" on {report.node}" if report.node else ""
    if report.state == "SUSPENDED":
        return f"job {report.id}{where} is suspended by Slurm" + _age(report, now)
    if report.ended:
        return f"job {report.id}{where} has just ended ({report.state})" + _age(report, now)
    if report.state == "COMPLETING":
        return f"job {report.id}{where} is ending" + _age(report, now)
    return f"job {report.id} has started{where}: its supervisor comes up" + _age(report, now)


def describe_end(folder: RunFolder, report: JobReport, memory: str | None) -> str:
    """How a job ended whose supervisor recorded no end.

    Args:
        folder: the run.
        report: of the job, which is over.
        memory: main memory that the config asks for, as sbatch takes it; None where it does not say.
    """
    job, where = f"job {report.id}", f" on {report.node}" if report.node else ""
    if report.state == "OUT_OF_MEMORY" or _died_of_memory(folder, report.id):
        return f"Slurm ended {job}{where}: {out_of_memory_text(folder, memory)}"
    sentences = {
        "BOOT_FAIL": f"the node of {job} failed to boot",
        "CANCELLED": f"{job} was cancelled",
        "DEADLINE": f"{job} reached its deadline",
        "NODE_FAIL": f"a node of {job} failed{where}",
        "PREEMPTED": f"{job} was preempted by a job of higher priority",
        "REVOKED": f"{job} was taken over by another cluster",
        "TIMEOUT": f"{job} reached its time limit before the run had ended\n"
        "A longer save_seconds in [slurm] gives it more time to save, a longer time more to train.",
        UNKNOWN_STATE: f"Slurm no longer knows {job}, and its supervisor recorded no end",
    }
    if report.state in sentences:
        return sentences[report.state]
    pointer = f"; {folder.supervisor_output.name} has its last words" if _tail(folder) else ""
    return f"{job}{where} ended ({report.state}), and its supervisor recorded no end{pointer}"


def out_of_memory_text(folder: RunFolder, memory: str | None) -> str:
    """Sentences about a job that used more main memory than it had, with what to ask for next time."""
    had = f" of {memory}" if memory else ""
    return f"{_OVER_MEMORY}{had}\nAsk for more: dpo-tui resume {folder.id} --set mem={more_memory(memory)}"


def request_after(folder: RunFolder, reason: str) -> dict[str, str]:
    """What a resumed run asks Slurm for, other than before: more memory where its job ran out of it, else nothing.

    Args:
        folder: the run, which is over.
        reason: of its end.
    """
    if _OVER_MEMORY not in reason:
        return {}
    memory = read_settings(folder.config).get("mem")
    # Without a setting the job's own words say how much it had.
    had = re.search(rf"{_OVER_MEMORY} of (\d+[KMGT]?)$", reason, re.MULTILINE)
    return {"mem": more_memory(str(memory) if memory else had[1] if had else None)}


def more_memory(memory: str | None) -> str:
    """Twice the main memory, as sbatch takes it; 64G where nothing was asked for."""
    found = re.fullmatch(r"(\d+)([KMGT]?)", memory or "")
    if found is None:
        return "64G"
    amount, unit = 2 * int(found[1]), found[2] or "M"
    return f"{amount}{unit}"


def _died_of_memory(folder: RunFolder, job: str) -> bool:
    """Whether slurmstepd wrote into the job's output that it ended the job for its memory.

    Where Slurm polls the memory instead of limiting it by cgroups, the job's state says FAILED and no more.
    """
    # The file has the output of earlier jobs of the run too.
    step = re.compile(rf"StepId={job}\b")
    lines = _tail(folder).decode("utf-8", "replace").splitlines()
    return any(step.search(line) and _MEMORY_WORDS.search(line) for line in lines)


def _tail(folder: RunFolder) -> bytes:
    try:
        with open(folder.supervisor_output, "rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - _LOG_TAIL))
            return stream.read()
    except OSError:
        return b""


def _age(report: JobReport, now: float) -> str:
    if not report.error:
        return ""
    return f"; {report.error}"
