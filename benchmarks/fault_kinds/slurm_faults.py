"""Jobs of a real Slurm of two nodes on this machine: their steps are killed, they are cancelled and queued again."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

from benchmarks.fault_kinds.commands import in_child
from benchmarks.fault_kinds.follow_up import check_done, finish, go_on, look
from benchmarks.fault_kinds.kind import fault_kind
from benchmarks.fault_kinds.processes import processes_of, send
from benchmarks.fault_kinds.session import NotPossibleHere
from benchmarks.fault_kinds.stage import Stage
from dpo_tui.runs import start_run, store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers import slurm_refresh
from tests.support.slurm_cluster import PROGRAMS, SlurmCluster

CLUSTER_FOLDER = "slurm"
CAUSES = ("SIGKILL", "killed", "cancelled", "job")
# Commands are forks of this process: 15 seconds between two questions to Slurm would be most of a fault's time.
slurm_refresh.REFRESH_INTERVAL = 0.5


def start_cluster(work: Path) -> SlurmCluster | None:
    """Start the cluster of a campaign; None where Slurm is not installed."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    if any(shutil.which(name, path=path) is None for name in PROGRAMS):
        return None
    folder = work / CLUSTER_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    cluster = SlurmCluster(folder)
    try:
        cluster.start()
    except (AssertionError, OSError):
        cluster.stop()
        return None
    return cluster


def job_at(stage: Stage, step: int, **options: object) -> tuple[RunFolder, str]:
    """Submit a run that holds at a step, and wait until it is there; returns the run and its job's id."""
    config = stage.shared / CLUSTER_FOLDER / "slurm.conf"
    if not config.exists():
        raise NotPossibleHere("Slurm is not installed, or does not start")
    os.environ["SLURM_CONF"] = str(config)
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    stage.train_by(hold_at=step, **options)
    text = stage.config_text(mem="1G")

    def begin() -> Path:
        folder = store.create(text, name="job", devices=[], launcher="slurm")
        start_run.start(folder)
        return folder.path

    run = RunFolder(in_child(begin))
    stage.runs.append(run)
    stage.until(lambda: stage.last_step(run) >= step and stage.worker(run), "the job to reach its step", 120)

    return run, str(json.loads(run.job.read_text(encoding="utf-8"))["id"])


@fault_kind("kill-slurm-step", "SIGKILL to the worker, the supervisor, or every process of a Slurm job")
def kill_step(stage: Stage) -> None:
    """The status says how it ended once Slurm does; resume goes on in another job."""
    run, _ = job_at(stage, stage.rng.randint(1, 11))
    how = stage.rng.choice(("worker", "supervisor", "everything"))
    stage.notes.append(how)
    if how == "worker":
        send(stage.worker_pid(run), signal.SIGKILL)
    elif how == "supervisor":
        send(stage.supervisor_pid(run), signal.SIGKILL)
    else:
        for one in processes_of(stage.home):
            send(one.pid, signal.SIGKILL)
    look(stage, run, ["failed"] if how == "worker" else ["lost", "failed"], CAUSES)
    go_on(stage, run, options={}, seconds=150)
    finish(stage)


@fault_kind("cancel-slurm-job", "`scancel` of a job, with or without a signal of choice")
def cancel_job(stage: Stage) -> None:
    """It saves and is stopped, or is lost with Slurm's words."""
    run, job = job_at(stage, stage.rng.randint(1, 11))
    options = stage.rng.choice(([], ["--signal=KILL"], ["--signal=TERM", "--full"], ["--signal=KILL", "--full"]))
    stage.notes.append(" ".join(options))
    SlurmCluster(stage.shared / CLUSTER_FOLDER).command("scancel", *options, job)
    if options == ["--signal=KILL"]:
        # Without --full or --batch it reaches no process of a job that has no further steps.
        time.sleep(1)
    if stage.worker(run) is not None and "TERM" not in " ".join(options) and options == ["--signal=KILL"]:
        check_done(stage, run)
    else:
        look(stage, run, ["stopped", "lost", "failed"], (*CAUSES, "asked to end"))
        go_on(stage, run, options={}, seconds=150)
    finish(stage)


@fault_kind("requeue-slurm-job", "`scontrol requeue` of a job that trains")
def requeue_job(stage: Stage) -> None:
    """It saves, waits in the queue again, and goes on by itself from what it has saved."""
    step = stage.rng.randint(1, 11)
    run, job = job_at(stage, step)
    stage.train_by()
    SlurmCluster(stage.shared / CLUSTER_FOLDER).command("scontrol", "requeue", job)
    stage.until(lambda: b"Resuming from step" in run.events.read_bytes(), "the job to go on", 150)
    check_done(stage, run)
    finish(stage)
