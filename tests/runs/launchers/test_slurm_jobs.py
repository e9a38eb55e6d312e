"""Runs as jobs of a real Slurm of two nodes: submitted, pending, running, stopped, at their time limit, and lost."""

import json
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from dpo_tui.config.toml_text import to_toml
from dpo_tui.errors import RunError
from dpo_tui.runs import control_requests, start_run, store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers.slurm_job import out_of_memory_text, request_after
from dpo_tui.runs.ranks import read_reports
from dpo_tui.runs.status import status_of
from tests.support.command_line import CommandLine, command_line
from tests.support.repository import ROOT
from tests.support.slurm_cluster import (  # noqa: F401 - fixtures
    SlurmCluster,
    cluster_of_session,
    cluster_with_cgroups,
    idle_cluster,
)
from tests.support.supervised_runs import (  # noqa: F401 - a fixture
    ended,
    events,
    fresh_home,
    go,
    has_status,
    holding,
    send,
    state_of,
    until,
    waits,
    worker,
)
from tests.support.training import make_config

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(name="dpo_tui")
def call_in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return command_line(monkeypatch, capsys)


def make_job(config: str = "", after: str | None = None, launcher: str = "slurm") -> RunFolder:
    """Create a run that is to be submitted."""
    text = f'[slurm]\nmem = "200M"\n{config}'
    return store.create(text, name="test", devices=[], after=after, launcher=launcher)


def submit(*options: str | int, config: str = "", after: str | None = None) -> RunFolder:
    """Create and submit a run with the stand-in worker."""
    folder = make_job(config, after)
    start_run.start(folder, worker(folder, *options))
    return folder


def test_a_run_is_submitted_runs_in_its_job_and_is_done(slurm: SlurmCluster) -> None:
    folder = submit("--hold-at", 2)
    holding(folder, 2)
    state = state_of(folder)
    job = json.loads(folder.job.read_text())["id"]
    assert state.job == {"id": job, "node": "n1", "restarts": 0}
    found = store.summary(folder)
    assert (found["status"], found["launcher"], found["job"]["id"], found["step"]) == ("running", "slurm", job, 2)
    go(folder)
    assert ended(folder).status == "done"
    assert (folder.path / "job.sh").read_text().startswith("#!/bin/bash\n")
    until(lambda: slurm.state_of(job) == "COMPLETED", "the job's end")
    assert folder.supervisor_output.read_text() == "", "nothing was wrong"


@pytest.mark.slow
def test_a_pending_run_says_why_and_is_cancelled_by_stop(slurm: SlurmCluster) -> None:
    folder = submit(config='partition = "closed"')
    reason = waits(folder, "PartitionDown")
    job = json.loads(folder.job.read_text())["id"]
    assert reason == f"job {job} waits in Slurm's queue: its partition is down (PartitionDown)"
    found = store.summary(folder)
    assert (found["job"]["state"], found["job"]["pending_reason"]) == ("PENDING", "PartitionDown")
    with pytest.raises(RunError, match="is queued: it cannot be resumed meanwhile"):
        start_run.resume(folder)
    with pytest.raises(RunError, match="Stop it first"):
        store.remove(folder)
    control_requests.request_stop(folder)
    status = status_of(folder)
    assert (status.status, status.reason) == (
        "stopped",
        f"stopped before it started: job {job} was cancelled, as asked",
    )
    assert slurm.state_of(job) == "CANCELLED"
    assert not control_requests.is_requested(folder, control_requests.STOP), "a resume would stop at once"


@pytest.mark.slow
def test_a_run_that_waits_for_others_says_when_slurm_expects_it_to_start(slurm: SlurmCluster) -> None:
    first = submit("--hold-at", 1, config='time = "10"\ncpus_per_task = 2\nsbatch_options = ["--nodelist=n1"]')
    holding(first, 1)
    second = submit(config='time = "10"\ncpus_per_task = 2\nsbatch_options = ["--nodelist=n1"]')
    reason = waits(second, "Resources", "expects")
    assert re.search(r"waits for free resources \(Resources\); Slurm expects it to start in \d+ min", reason)
    assert store.summary(second)["job"]["estimated_start"] > time.time()
    go(first)
    assert ended(second).status == "done"


@pytest.mark.slow
def test_a_running_run_stops_at_its_next_step_and_goes_on_in_a_new_job(slurm: SlurmCluster) -> None:
    folder = submit("--hold-at", 2)
    holding(folder, 2)
    control_requests.request_stop(folder)
    state = ended(folder)
    assert (state.status, state.reason) == ("stopped", "stopped as asked; checkpoint-2 is saved")
    slurm.command("scontrol", "update", "partitionname=main", "state=down")
    resumed = start_run.resume(folder)
    assert resumed.checkpoint is not None and resumed.checkpoint.name == "checkpoint-2"
    waits(folder, "PartitionDown")
    with pytest.raises(RunError, match="is queued"):
        start_run.resume(folder)
    slurm.command("scontrol", "update", "partitionname=main", "state=up")
    second = ended(folder)
    assert (second.status, second.attempt) == ("done", 2)
    assert state.job is not None and second.job is not None and second.job["id"] != state.job["id"]
    assert events(folder, "lost") == []


@pytest.mark.slow
def test_a_run_whose_supervisor_hangs_is_cancelled_when_stop_now_is_repeated(slurm: SlurmCluster) -> None:
    folder = submit("--hold-at", 2)
    holding(folder, 2)
    send(state_of(folder).supervisor_pid, signal.SIGSTOP)
    control_requests.request_stop(folder, now=True)
    control_requests.request_stop(folder, now=True)
    # Slurm wakes what it cancels (SIGCONT), so that the supervisor sees the request after all.
    state = ended(folder)
    assert (state.status, state.reason) == ("stopped", "stopped at once, as asked; checkpoint-2 is saved")
    assert state.job is not None
    until(lambda: slurm.state_of(state.job["id"]) == "CANCELLED", "the job's end")


@pytest.mark.slow
def test_a_job_that_someone_cancels_ends_its_run_with_a_checkpoint(slurm: SlurmCluster) -> None:
    folder = submit("--hold-at", 2)
    holding(folder, 2)
    job = state_of(folder).job
    assert job is not None
    slurm.command("scancel", job["id"])
    state = ended(folder)
    assert state.status == "stopped"
    assert state.reason == (
        "stopped because its supervisor was asked to end, as when its job is cancelled or preempted; "
        "checkpoint-2 is saved"
    )


@pytest.mark.slow
def test_a_job_that_someone_queues_again_goes_on_from_a_checkpoint(slurm: SlurmCluster) -> None:
    """As Slurm itself does with a job that it preempts."""
    folder = submit("--hold-at", 2)
    holding(folder, 2)
    job = state_of(folder).job
    assert job is not None
    slurm.command("scontrol", "requeue", job["id"])
    until(lambda: state_of(folder).status == "done", "the second attempt")
    assert "starting at step 2" in folder.train_log.read_text()
    assert state_of(folder).job == {**job, "restarts": 1}


@pytest.mark.slow
def test_at_its_time_limit_a_run_saves_is_queued_again_and_goes_on(slurm: SlurmCluster) -> None:
    folder = submit("--hold-at", 2, config='time = "1"\nsave_seconds = 55')
    holding(folder, 2)
    until(lambda: events(folder, "requeued"), "the signal before the time limit")
    assert events(folder, "requeued")[0]["message"] == (
        "stopped at the time limit of its job; checkpoint-2 is saved; its job is queued again"
    )
    reason = waits(folder, "BeginTime")
    assert "Slurm lets it start only after a while, as after each requeue" in reason
    state = ended(folder)
    assert (state.status, state.attempt) == ("done", 2), status_of(folder)
    assert state.job is not None and state.job["restarts"] == 1
    assert "starting at step 2" in folder.train_log.read_text()
    assert events(folder, "lost") == []


@pytest.mark.slow
def test_a_run_is_queued_again_only_as_often_as_it_may(slurm: SlurmCluster) -> None:
    folder = submit("--hold-at", 2, config='time = "1"\nsave_seconds = 55\nrequeue_limit = 0')
    state = ended(folder)
    assert (state.status, state.attempt) == ("stopped", 1)
    assert state.reason == (
        "stopped at the time limit of its job; checkpoint-2 is saved. It does not go on by itself: requeue_limit is 0"
    )


@pytest.mark.slow
def test_a_job_over_its_memory_limit_says_what_to_ask_for(slurm: SlurmCluster) -> None:
    folder = make_job()
    hungry = "import time; x = bytearray(b'x') * 600_000_000; time.sleep(60)"
    start_run.start(folder, [worker(folder)[0], "-c", hungry])
    has_status(folder, "lost", "failed", "stopped")
    status = status_of(folder)
    job = state_of(folder).job
    assert job is not None
    assert status.reason == (
        f"Slurm ended job {job['id']} on n1: it used more than its main memory of 200M\n"
        f"Ask for more: dpo-tui resume {folder.id} --set mem=400M"
    )


def test_only_a_run_that_ran_out_of_memory_asks_for_more(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.config.write_text("[slurm]\n")
    reason = f"killed by signal 9 (SIGKILL): {out_of_memory_text(folder, '4000M')}"
    assert request_after(folder, reason) == {"mem": "8000M"}, "the default of the partition, as the job had it"
    assert request_after(folder, out_of_memory_text(folder, None)) == {"mem": "64G"}
    folder.config.write_text('[slurm]\nmem = "16G"\n')
    assert request_after(folder, reason) == {"mem": "32G"}, "it was resumed with more since"
    assert request_after(folder, "a node of job 17 failed on n1") == {}


@pytest.mark.slow
@pytest.mark.usefixtures("limiting_slurm")
def test_a_worker_over_the_limit_of_its_jobs_cgroup_says_what_to_ask_for() -> None:
    folder = make_job()
    hungry = "x = bytearray(b'x') * 600_000_000"
    start_run.start(folder, [worker(folder)[0], "-c", hungry])
    state = ended(folder)
    assert (state.status, state.reason) == (
        "failed",
        "killed by signal 9 (SIGKILL): it used more than its main memory of 200M\n"
        f"Ask for more: dpo-tui resume {folder.id} --set mem=400M",
    )


@pytest.mark.slow
def test_a_run_on_a_node_that_fails_goes_on_elsewhere(slurm: SlurmCluster) -> None:
    folder = submit("--hold-at", 2)
    holding(folder, 2)
    control_requests.request_checkpoint(folder)
    until((folder.checkpoints / "checkpoint-2").exists, "the checkpoint")
    job = state_of(folder).job
    assert job is not None and job["node"] == "n1"
    slurm.kill_node("n1", job["id"])
    waits(folder, "BeginTime")
    state = ended(folder)
    assert (state.status, state.attempt) == ("done", 2)
    assert state.job == {"id": job["id"], "node": "n2", "restarts": 1}


@pytest.mark.slow
def test_a_run_on_a_node_that_fails_is_lost_where_it_may_not_be_queued_again(slurm: SlurmCluster) -> None:
    folder = submit("--hold-at", 2, config="requeue_limit = 0")
    holding(folder, 2)
    job = state_of(folder).job
    assert job is not None
    slurm.kill_node("n1", job["id"])
    until(lambda: "a node of job" in status_of(folder).reason, "Slurm's word on the node")
    status = status_of(folder)
    assert (status.status, status.reason) == ("lost", f"a node of job {job['id']} failed on n1")


@pytest.mark.slow
def test_a_run_after_another_is_a_job_after_another(slurm: SlurmCluster) -> None:
    first = submit("--hold-at", 1)
    holding(first, 1)
    second = submit(after=first.id)
    waits(second, "it waits for the job of the run before it (Dependency)")
    go(first)
    assert ended(second).status == "done"


@pytest.mark.slow
def test_what_slurm_refuses_is_no_run_that_waits(slurm: SlurmCluster) -> None:
    folder = make_job('partition = "nowhere"')
    with pytest.raises(RunError, match=r"was not submitted: sbatch: .*Invalid partition name specified"):
        start_run.start(folder, worker(folder))
    status = status_of(folder)
    assert status.status == "failed" and "Invalid partition name" in status.reason


@pytest.mark.slow
def test_a_home_with_blanks_and_percent_signs_gets_the_output_of_the_job(
    slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path / "my home 100%j 'q'"))
    folder = make_job()
    start_run.start(folder, [worker(folder)[0], "-c", "print(1)"])
    assert ended(folder).status == "done"
    assert folder.supervisor_output.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["my home 100%j 'q'"]


@pytest.mark.slow
def test_two_processes_train_together_in_a_job(slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = store.create('[slurm]\nmem = "2000M"\n', name="two", devices=[], launcher="slurm", ranks=2)
    ranks = ROOT / "tests" / "support" / "standin_ranks.py"
    start_run.start(folder, [sys.executable, str(ranks), "rank", str(folder.path)])
    assert ended(folder).status == "done"
    assert [(report.rank, report.world_size, report.code) for report in read_reports(folder)] == [(0, 2, 0), (1, 2, 0)]


@pytest.mark.slow
def test_the_command_line_trains_the_tiny_model_in_a_job(
    slurm: SlurmCluster,
    dpo_tui: CommandLine,
    tmp_path: Path,
    tiny_model: Path,
    tiny_pairs: Path,
) -> None:
    path = tmp_path / "run.toml"
    path.write_text(to_toml(make_config(tiny_model, tiny_pairs, launcher="slurm", mem="3000M", cpus_per_task=1)))
    code, _, err = dpo_tui("train", str(path), "--set", "partition=nowhere")
    assert (code, "It has closed, main." in err) == (2, True)
    code, _, err = dpo_tui("train", str(path), "--set", "mem=4T")
    assert (code, "Slurm does not take this job" in " ".join(err.split())) == (2, True), err
    assert store.all_runs() == []
    code, out, err = dpo_tui("train", str(path))
    assert code == 0, err
    found = store.summary(store.find(out.strip()))
    assert (found["status"], found["step"], found["launcher"]) == ("done", 6, "slurm")
    assert found["metrics"]["loss"] > 0 and (Path(found["dir"]) / "adapter").is_dir()
    code, out, _ = dpo_tui("status", out.strip())
    assert f"job {found['job']['id']} on n1" in out
