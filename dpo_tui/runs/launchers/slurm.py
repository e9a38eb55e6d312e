"""The Slurm launcher: the supervisor runs inside a job, and there starts the worker as the local launcher does.

On the login node a run is submitted, asked about and cancelled; `dpo_tui.runs.launchers.slurm_script` makes the script,
`slurm_commands` calls Slurm, `slurm_job` and `slurm_refresh` know what has become of the job. Inside the job, whose
first process is the supervisor, what differs from a run of this machine is the GPU, which Slurm has chosen, the time
limit, and the limit on main memory. Standard library only.
"""

import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from dpo_tui.errors import RunError
from dpo_tui.processes.child_environment import child_environment
from dpo_tui.runs import run_lock
from dpo_tui.runs.atomic_files import write_text_atomic
from dpo_tui.runs.complete_checkpoints import newest_complete
from dpo_tui.runs.exit_codes import describe_exit
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.frozen_config import read_settings
from dpo_tui.runs.launchers import slurm_commands
from dpo_tui.runs.launchers.launcher import BatchJob, Command, Launcher, Worker
from dpo_tui.runs.launchers.local import LocalLauncher, LocalWorker
from dpo_tui.runs.launchers.slurm_job import (
    JobReport,
    describe_end,
    describe_pending,
    describe_running,
    job_id,
    out_of_memory_text,
    write_job,
    write_report,
)
from dpo_tui.runs.launchers.slurm_nodes import NodesLauncher
from dpo_tui.runs.launchers.slurm_refresh import report_of
from dpo_tui.runs.launchers.slurm_script import REQUEUE_VARIABLE, job_script
from dpo_tui.runs.launchers.torchrun import TorchrunLauncher
from dpo_tui.runs.state import State, read_state, write_state
from dpo_tui.runs.state_writer import StateWriter
from dpo_tui.runs.status_names import ENDED

_CANCEL_DEADLINE = 5.0
"""Seconds to wait until Slurm has cancelled a job that had not started."""
_ID_DEADLINE = 30.0
"""Seconds in which the process that submitted a job writes its id: the job may start before sbatch has returned."""
_POLL = 0.2


class SlurmLauncher(LocalLauncher):
    """The supervisor is submitted as a job; the worker is one process beside it, or several under torchrun."""

    # On the login node.

    def start_supervisor(self, folder: RunFolder, argv: list[str]) -> None:
        """Submit the supervisor.

        Raises:
            RunError: Slurm did not accept the job, or someone else just starts the run.
        """
        script = job_script(folder, read_settings(folder.config), argv)
        before = self._record_submission(folder)
        try:
            write_text_atomic(folder.job_script, script.text)
            job = slurm_commands.submit(
                script.text, script.environment(child_environment()), after=_earlier_job(folder, before)
            )
        except (RunError, OSError) as error:
            # The run is what it was before, or one that never started.
            self._record(
                folder, before if before.status in ENDED else replace(before, status="failed", reason=str(error))
            )
            message = error.message if isinstance(error, RunError) else str(error)
            raise RunError(f"run {folder.id} was not submitted: {message}") from None
        try:
            write_job(folder, job, time.time())
        except OSError as error:
            with suppress(RunError):  # nobody would find the job again
                slurm_commands.cancel(job)
            raise RunError(
                f"run {folder.id}: its job {job} was cancelled: its id cannot be written: {error}"
            ) from error

    def waiting_reason(self, folder: RunFolder) -> str | None:
        """Why the job has not started; also while it has, and its supervisor is not up."""
        report = report_of(folder)
        if report is None or report.phase == "over":
            return None
        if report.phase == "pending":
            return describe_pending(report)
        state = read_state(folder)
        return describe_running(report) if state is not None and state.status == "queued" else None

    def batch_job(self, folder: RunFolder) -> BatchJob | None:
        """The job as Slurm last described it."""
        report = report_of(folder)
        if report is None:
            return None
        reason = f"job {report.id}"
        if report.phase == "over":
            reason = describe_end(folder, report, read_settings(folder.config).get("mem"))
        elif report.phase == "pending":
            reason = describe_pending(report)
        return BatchJob(report.phase, reason, _document(report))

    def stop_unsupervised(self, folder: RunFolder, state: State, *, now: bool, again: bool) -> None:
        """Cancel a job that has not started; one that runs sees the request itself, and is cancelled at the second.

        Raises:
            RunError: Slurm did not cancel it.
        """
        job = job_id(folder)
        if job is None:
            return
        # Only if it is pending still: a job that has just started would lose what it could save.
        slurm_commands.cancel(job, only_pending=True)
        deadline = time.monotonic() + _CANCEL_DEADLINE
        while True:
            entry = slurm_commands.queue_entries([job]).get(job)
            report = replace(JobReport.of(entry, time.time()), confirmed=True) if entry else None
            if report is None or report.phase != "pending" or time.monotonic() > deadline:
                break
            time.sleep(_POLL)
        if report is not None:
            write_report(folder, report)
        if report is None or report.phase == "over":
            self._record_cancelled(folder, job)
        elif now and again:
            slurm_commands.cancel(job)

    def cancel(self, folder: RunFolder) -> None:
        """Cancel the job of a run whose supervisor does not honour a request.

        Raises:
            RunError: Slurm did not cancel it.
        """
        if (job := job_id(folder)) is not None:
            slurm_commands.cancel(job)

    # Inside the job.

    def own_job(self, folder: RunFolder) -> dict[str, Any] | None:
        """The job in which this process runs.

        Raises:
            RunError: the run has been submitted again since, as another job.
        """
        own = os.environ.get("SLURM_JOB_ID")
        if own is None:
            return None
        deadline = time.monotonic() + _ID_DEADLINE
        # The job may start before the process that submitted it has learnt and recorded its id.
        while (known := job_id(folder)) is not None and int(known) < int(own) and time.monotonic() < deadline:
            time.sleep(_POLL)
        if known is not None and known != own:
            raise RunError(f"run {folder.id} belongs to job {known} now; this one, job {own}, ends")
        restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
        found = {"id": own, "node": os.environ.get("SLURMD_NODENAME", ""), "restarts": int(restarts or 0)}
        if os.environ.get("SLURM_JOB_NUM_NODES", "1") != "1":
            found["nodes"] = os.environ.get("SLURM_JOB_NODELIST", "")
        return found

    def prepare(self, folder: RunFolder, state: State, worker_argv: list[str]) -> Command:
        """The command of the local launchers, with as many of the GPUs that the job has as there are processes."""
        if (nodes := _nodes(folder)) > 1:
            return NodesLauncher(nodes).prepare(folder, state, worker_argv)
        local: Launcher = TorchrunLauncher() if state.ranks > 1 else LocalLauncher()
        command = local.prepare(folder, state, worker_argv)
        # With more visible GPUs than processes Trainer would split each batch over all of them (DataParallel), and
        # without the variable they might be other people's.
        every = ",".join(str(index) for index in range(state.ranks))
        visible = command.environment.get("CUDA_VISIBLE_DEVICES", every).split(",")[: state.ranks]
        return Command(command.argv, command.environment | {"CUDA_VISIBLE_DEVICES": ",".join(visible)})

    def start(self, folder: RunFolder, command: Command) -> Worker:
        """Start the process, or the agent of several."""
        if (nodes := _nodes(folder)) > 1:
            return NodesLauncher(nodes).start(folder, command)
        state = read_state(folder)
        if state is not None and state.ranks > 1:
            return TorchrunLauncher().start(folder, command)
        return SlurmWorker(folder, command)

    def requeue(self, folder: RunFolder, state: State) -> None:
        """Put this process's job into the queue again; Slurm ends it then.

        Raises:
            RunError: it has been queued again often enough, has made no progress, or Slurm refuses.
        """
        job = os.environ.get("SLURM_JOB_ID")
        if job is None:
            raise RunError("this supervisor runs in no job")
        limit = int(os.environ.get(REQUEUE_VARIABLE, "0") or 0)
        restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0") or 0)
        if restarts >= limit:
            allowed = f"{limit} times" if limit != 1 else "once"
            raise RunError(
                f"it went on {allowed}, which is what requeue_limit allows" if limit else "requeue_limit is 0"
            )
        newest, _ = newest_complete(folder.checkpoints)
        if newest is None or newest.stat().st_mtime < (state.attempt_since(time.time()) or 0.0):
            # Another job of the same length would end in the same place, and so would each after it.
            raise RunError("no checkpoint was saved in this job's time, so another such job would get no further")
        slurm_commands.requeue(job)

    def _record_submission(self, folder: RunFolder) -> State:
        """Write the state as queued; return the earlier one.

        The state of an ended run would say so until the job has started, which may take days.

        Raises:
            RunError: the run has a supervisor.
        """
        state = self._locked_state(folder)
        try:
            if state.status in ENDED or state.attempt:
                # The requests to its earlier attempts are withdrawn by its supervisor.
                write_state(
                    folder, replace(state, status="queued", reason="", supervisor_pid=None, queued_at=time.time())
                )
            # What an earlier job has come to is not how the run is from now on.
            folder.job.unlink(missing_ok=True)
            return state
        finally:
            # Before sbatch: the job may start at once, and its supervisor needs the lock.
            run_lock.release(folder.lock)

    def _record_cancelled(self, folder: RunFolder, job: str) -> None:
        """Record the end of a run whose job never started, unless a supervisor has it after all."""
        with suppress(RunError):
            state = self._locked_state(folder)
            try:
                if state.status not in ENDED:
                    reason = f"stopped before it started: job {job} was cancelled, as asked"
                    record = StateWriter(folder, state)
                    record.update(status="stopped", reason=reason, ended_at=time.time())
                    record.event("stopped", reason)
            finally:
                run_lock.release(folder.lock)

    def _record(self, folder: RunFolder, state: State) -> None:
        with suppress(RunError):
            self._locked_state(folder)
            try:
                write_state(folder, state)
            finally:
                run_lock.release(folder.lock)

    def _locked_state(self, folder: RunFolder) -> State:
        """Take the run's lock, which makes this process the one writer of its state, and read it."""
        if not run_lock.acquire(folder.lock):
            raise RunError(f"run {folder.id} is looked after already, by process {run_lock.owner(folder.lock)}")
        state = read_state(folder)
        if state is None:
            run_lock.release(folder.lock)
            raise RunError(f"run {folder.id}: {folder.state} is missing or torn")
        return state


class SlurmWorker(LocalWorker):
    """A worker in a job, whose main memory has a limit."""

    def _explain_exit(self, returncode: int) -> str:
        killed = returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        if not (killed and self._kernel_killed()):
            return super()._explain_exit(returncode)
        megabytes = os.environ.get("SLURM_MEM_PER_NODE", "")
        memory = f"{megabytes}M" if megabytes.isdigit() and megabytes != "0" else None
        asked = read_settings(self.folder.config).get("mem") or memory
        text = out_of_memory_text(self.folder, asked)
        return f"{describe_exit(returncode, out_of_memory=True).partition(':')[0]}: {text}"


def _nodes(folder: RunFolder) -> int:
    return int(read_settings(folder.config).get("nodes") or 1)


def _earlier_job(folder: RunFolder, state: State) -> str:
    """The job of the run that this one comes after; empty where there is none.

    Else the job would start beside it, and hold its GPU while it waits.
    """
    return (job_id(RunFolder(folder.path.with_name(state.after))) or "") if state.after else ""


def _document(report: JobReport) -> dict[str, Any]:
    """A job as `status --json` shows it."""
    expected = report.start if report.phase == "pending" else None
    return {
        "id": report.id,
        "state": report.state,
        "pending_reason": report.reason if report.phase == "pending" else "",
        "estimated_start": expected,
        "node": report.node,
        "asked_at": report.t or None,
    }
