"""Slurm's commands: called with a time limit, their output parsed. Standard library only."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dpo_tui.errors import RunError

ANSWER_DEADLINE = 20.0
"""Seconds that a busy controller may take: it answers thousands of users, and is slow for seconds at a time."""
NO_SLURM = "this machine has no sbatch"

_FIELDS = "%i|%T|%S|%N|%r"
_SACCT_FIELDS = "JobID,State,NodeList"


@dataclass(frozen=True)
class QueueEntry:
    """What Slurm says about a job.

    Args:
        id: of the job.
        state: as squeue spells it, such as ``PENDING``.
        reason: why it is in this state, as squeue spells it; empty where there is none.
        start: Unix time of its start, expected while it is pending; None where Slurm does not say.
        node: the first node; empty while it has none.
    """

    id: str
    state: str
    reason: str = ""
    start: float | None = None
    node: str = ""


def run_command(
    argv: Sequence[str],
    *,
    deadline: float = ANSWER_DEADLINE,
    environment: Mapping[str, str] | None = None,
    text: str = "",
) -> str:
    """Run one of Slurm's commands and return its output.

    Args:
        argv: program and arguments.
        deadline: seconds that it may take.
        environment: the whole environment; this process's by default.
        text: its standard input.

    Raises:
        RunError: it is not installed, failed, or did not answer in time; the message has Slurm's own words.
    """
    # Times and words as this module parses them, whatever the user's environment asks squeue and sacct for.
    fixed = {"LC_ALL": "C", "SLURM_TIME_FORMAT": "standard"}
    whole = {**(os.environ if environment is None else environment), **fixed}
    for variable in [name for name in whole if name.startswith(("SQUEUE_", "SACCT_", "SINFO_"))]:
        del whole[variable]
    try:
        done = subprocess.run(
            list(argv),
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=deadline,
            env=whole,
            check=False,
        )
    except FileNotFoundError:
        raise RunError(f"there is no {argv[0]} here") from None
    except subprocess.TimeoutExpired:
        raise RunError(f"{argv[0]} did not answer within {deadline:g} s") from None
    except OSError as error:
        raise RunError(f"{argv[0]} could not be started: {error.strerror or error}") from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise RunError(f"{argv[0]}: {said.removeprefix(f'{argv[0]}: ')}")
    return done.stdout


def is_installed() -> bool:
    """Whether jobs can be submitted from this machine."""
    return shutil.which("sbatch") is not None


def submit(script: str, environment: Mapping[str, str], *, after: str = "") -> str:
    """Submit a script; return the job's id.

    Args:
        script: its text.
        environment: for sbatch, and for the job.
        after: id of a job that must have ended first, in any way; empty for none.

    Raises:
        RunError: Slurm did not accept it.
    """
    argv = ["sbatch", "--parsable", *([f"--dependency=afterany:{after}"] if after else [])]
    # The script goes through standard input: sbatch keeps its own copy either way.
    output = run_command(argv, environment=environment, text=script)
    # "17", or "17;cluster" where Slurm knows several clusters.
    found = re.search(r"^(\d+)(;\S+)?\s*$", output, re.MULTILINE)
    if found is None:
        raise RunError(f"sbatch answered without the id of a job: {output.strip()[:200]!r}")
    return found[1]


def cancel(job: str, *, only_pending: bool = False) -> None:
    """Cancel a job: Slurm sends SIGTERM to its processes, and SIGKILL after a while.

    Args:
        job: its id.
        only_pending: leave it alone if it has started meanwhile.

    Raises:
        RunError: Slurm did not do it.
    """
    run_command(["scancel", *(["--state=PENDING"] if only_pending else []), job])


def kill_steps(job: str) -> None:
    """Kill what srun has started in a job, on all its nodes; the batch script, which is no such step, lives on."""
    with suppress(RunError):
        for step in run_command(["squeue", "-h", "-s", "-j", job, "-o", "%i"]).split():
            if step.rpartition(".")[2].isdigit():
                run_command(["scancel", "--signal=KILL", step])


def requeue(job: str) -> None:
    """End a job and put it into the queue again, under the same id.

    Raises:
        RunError: Slurm did not do it.
    """
    run_command(["scontrol", "requeue", job])


def queue_entries(jobs: Sequence[str]) -> dict[str, QueueEntry]:
    """Ask Slurm about jobs, by id; those that it no longer knows are left out.

    squeue knows a job for some minutes after its end; sacct, where the cluster has accounting, for ever.

    Raises:
        RunError: Slurm does not answer.
    """
    found = _from_squeue(jobs)
    if missing := [job for job in jobs if job not in found]:
        # Without accounting on the cluster nobody knows them any more.
        with suppress(RunError):
            found |= parse_sacct(run_command(["sacct", "-n", "-P", "-X", "-j", ",".join(missing), "-o", _SACCT_FIELDS]))
    return found


def _from_squeue(jobs: Sequence[str]) -> dict[str, QueueEntry]:
    try:
        return parse_squeue(run_command(["squeue", "-h", "-t", "all", "-j", ",".join(jobs), "-o", _FIELDS]))
    except RunError as error:
        # Only if it knows none of them is an unknown id an error.
        if "Invalid job id" in error.message:
            return {}
        raise


def parse_squeue(output: str) -> dict[str, QueueEntry]:
    """Jobs by id from squeue's lines; a line that is not understood is left out."""
    found = {}
    for line in output.splitlines():
        parts = line.split("|", 4)
        if len(parts) == len(_FIELDS.split("|")):
            job, state, start, nodes, reason = (part.strip() for part in parts)
            known = "" if reason in ("None", "N/A", "(null)") else reason
            found[job] = QueueEntry(job, state, known, _unix_time(start), _first_node(nodes))
    return found


def parse_sacct(output: str) -> dict[str, QueueEntry]:
    """Jobs by id from sacct's lines, of which a requeued job has several: the last one counts."""
    found = {}
    for line in output.splitlines():
        parts = line.split("|")
        if len(parts) == len(_SACCT_FIELDS.split(",")) and parts[1].strip():
            # "CANCELLED by 1000"
            found[parts[0]] = QueueEntry(parts[0], parts[1].split()[0].rstrip("+"), node=_first_node(parts[2]))
    return found


def partitions() -> dict[str, tuple[str, ...]]:
    """The partitions, each with the host names of its nodes.

    Raises:
        RunError: Slurm does not answer.
    """
    found: dict[str, list[str]] = {}
    for line in run_command(["sinfo", "-h", "-a", "-N", "-o", "%R|%n"]).splitlines():
        name, _, host = line.strip().partition("|")
        found.setdefault(name, []).append(host)
    return {name: tuple(sorted(set(hosts))) for name, hosts in found.items()}


def partition_gres(*, deadline: float = ANSWER_DEADLINE) -> dict[str, tuple[str, ...]]:
    """The partitions, each with the resources of its nodes such as ``gpu:a100:4``.

    Raises:
        RunError: Slurm does not answer.
    """
    found: dict[str, list[str]] = {}
    for line in run_command(["sinfo", "-h", "-o", "%R|%G"], deadline=deadline).splitlines():
        name, _, gres = line.strip().partition("|")
        # "gpu:a100:4(S:0-1),shard:8": in parentheses the sockets
        named = [] if gres in ("(null)", "") else re.sub(r"\([^)]*\)", "", gres).split(",")
        found.setdefault(name, []).extend(one for one in named if one not in found.get(name, []))
    return {name: tuple(gres) for name, gres in found.items()}


def _unix_time(text: str) -> float | None:
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except (ValueError, OverflowError):
        return None


def _first_node(nodes: str) -> str:
    """The first node of a list such as ``n[1-4,7],m1``."""
    if nodes in ("", "None assigned", "(null)"):
        return ""
    found = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes)
    return f"{found[1]}{found[2] or ''}" if found else ""
