"""The script of a Slurm job, and what is read from Slurm's answers: without a Slurm."""

import os
import subprocess
import time
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path

import pytest

from dpo_tui.errors import RunError
from dpo_tui.runs import control_requests, store
from dpo_tui.runs.exit_codes import OutOfMemoryKills
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers import slurm_commands, slurm_refresh
from dpo_tui.runs.launchers.launcher import Command
from dpo_tui.runs.launchers.slurm import SlurmLauncher
from dpo_tui.runs.launchers.slurm_commands import QueueEntry, parse_sacct, parse_squeue
from dpo_tui.runs.launchers.slurm_job import (
    JobReport,
    describe_end,
    describe_pending,
    describe_running,
    more_memory,
    read_report,
    write_job,
    write_report,
)
from dpo_tui.runs.launchers.slurm_script import job_script
from dpo_tui.runs.state import State, write_state
from dpo_tui.runs.status import status_of
from tests.support.supervised_runs import state_of, until

EXPECTED = """\
#!/bin/bash
# Run 20260102-030405-abcd of dpo-tui. The supervisor runs in this job; it starts the worker and records its end.
#SBATCH --job-name=dpo-tui-20260102-030405-abcd
#SBATCH --output="/shared/my home/runs/20260102-030405-abcd/supervisor.log"
#SBATCH --open-mode=append
#SBATCH --export=ALL
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --partition=gpu,long
#SBATCH --account=lab
#SBATCH --qos=high
#SBATCH --time=1-12:00:00
#SBATCH --gres=gpu:a100:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --constraint=a100&nvlink

export DPO_TUI_HOME='/shared/my home'
export DPO_TUI_SAVE_SECONDS=300 DPO_TUI_REQUEUE_LIMIT=3
exec python -m dpo_tui.runs.supervisor '/shared/my home/runs/x' -- worker 'a b'
"""
SETTINGS = {
    "partition": "gpu,long",
    "account": "lab",
    "qos": "high",
    "time": "1-12:00:00",
    "gres": "gpu:a100:1",
    "cpus_per_task": 8,
    "mem": "64G",
    "sbatch_options": ["--constraint=a100&nvlink"],
    "requeue_limit": 3,
    "save_seconds": 300,
}
NOW = 1_800_000_000.0


def folder_in(home: str) -> RunFolder:
    return RunFolder(Path(home, "runs", "20260102-030405-abcd"))


def test_the_script_can_be_read_and_says_what_the_config_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_TUI_HOME", "/shared/my home")
    argv = ["python", "-m", "dpo_tui.runs.supervisor", "/shared/my home/runs/x", "--", "worker", "a b"]
    script = job_script(folder_in("/shared/my home"), SETTINGS, argv)
    assert script.text == EXPECTED
    assert subprocess.run(["bash", "-n"], input=script.text, text=True, check=False).returncode == 0


def test_what_the_config_leaves_out_is_left_to_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPO_TUI_HOME", "/shared")
    script = job_script(folder_in("/shared"), {"partition": None, "requeue_limit": 0}, ["python"])
    directives = [line.split()[1] for line in script.text.splitlines() if line.startswith("#SBATCH")]
    assert [line.partition("=")[0] for line in directives] == [
        *("--job-name", "--output", "--open-mode", "--export", "--nodes", "--ntasks", "--signal", "--no-requeue")
    ]


def test_variables_of_the_user_do_not_win_against_the_script_but_fill_what_it_leaves_out() -> None:
    script = job_script(folder_in("/shared"), {"partition": "gpu"}, ["python"])
    environment = {"PATH": "/bin", "SBATCH_PARTITION": "cpu", "SBATCH_ACCOUNT": "lab", "SBATCH_EXPORT": "NONE"}
    assert script.environment(environment) == {"PATH": "/bin", "SBATCH_ACCOUNT": "lab"}


def test_a_percent_sign_in_a_path_is_no_pattern() -> None:
    assert '--output="/a%%j/runs/' in job_script(folder_in("/a%j"), {}, ["python"]).text


@pytest.mark.parametrize("home", ['/a"b', "/a\\b", "/a\nb", "/a\x1bb"])
def test_a_path_that_sbatch_cannot_take_is_refused(home: str) -> None:
    with pytest.raises(RunError, match="sbatch cannot write to a path with quotes"):
        job_script(folder_in(home), {}, ["python"])


@pytest.mark.parametrize("settings", [{"partition": "a\n#SBATCH --uid=0"}, {"sbatch_options": ["--x=1\nrm -rf /"]}])
def test_no_setting_of_a_config_that_was_changed_by_hand_adds_a_line(settings: dict[str, object]) -> None:
    with pytest.raises(RunError, match="a line feed in a path or a setting"):
        job_script(folder_in("/shared"), settings, ["python"])


def test_squeues_answers_are_read() -> None:
    output = (
        "17|PENDING|2026-11-26T22:06:14||Resources\n"
        "18|RUNNING|2026-11-26T22:05:14|gpu[03-07,9],m1|None\n"
        "19|PENDING|N/A||ReqNodeNotAvail, UnavailableNodes:n[1-2]\n"
        "slurm_load_jobs warning\n"
    )
    start = time.mktime((2026, 11, 26, 22, 6, 14, 0, 0, -1))
    assert parse_squeue(output) == {
        "17": QueueEntry("17", "PENDING", "Resources", start),
        "18": QueueEntry("18", "RUNNING", "", start - 60, "gpu03"),
        "19": QueueEntry("19", "PENDING", "ReqNodeNotAvail, UnavailableNodes:n[1-2]"),
    }


def test_saccts_last_word_on_a_job_counts() -> None:
    output = "17|NODE_FAIL|n1\n17|CANCELLED by 1000|n2\n18|OUT_OF_MEMORY|n3\n19||\n"
    assert parse_sacct(output) == {
        "17": QueueEntry("17", "CANCELLED", node="n2"),
        "18": QueueEntry("18", "OUT_OF_MEMORY", node="n3"),
    }


@pytest.mark.parametrize(
    ("reason", "start", "expected"),
    [
        ("", None, ""),
        ("Resources", NOW + 1200, ": it waits for free resources (Resources); Slurm expects it to start in 20 min"),
        ("Resources", NOW + 366 * 86_400, ": it waits for free resources (Resources)"),
        ("Priority", NOW - 5, ": jobs of higher priority come first (Priority)"),
        (
            "ReqNodeNotAvail, UnavailableNodes:n1",
            None,
            ": the nodes that it needs are down, drained or reserved (ReqNodeNotAvail, UnavailableNodes:n1)",
        ),
        ("QOSMaxGRESPerUser", None, ": a limit of its quality of service is reached (QOSMaxGRESPerUser)"),
        ("AssocGrpGRES", None, ": a limit of its account is reached (AssocGrpGRES)"),
        ("SomethingNew", None, ": SomethingNew"),
    ],
)
def test_why_a_job_pends_is_said_in_words(reason: str, start: float | None, expected: str) -> None:
    report = JobReport("17", "PENDING", reason, start)
    assert describe_pending(report, NOW) == "job 17 waits in Slurm's queue" + expected


def test_a_job_whose_supervisor_is_not_up_says_where_it_is() -> None:
    running = JobReport("17", "RUNNING", node="n1")
    assert describe_running(running) == "job 17 has started on n1: its supervisor comes up"
    assert describe_running(replace(running, state="COMPLETING")) == "job 17 on n1 is ending"
    assert describe_running(replace(running, state="COMPLETED")) == "job 17 on n1 has just ended (COMPLETED)"
    assert describe_running(JobReport("17", "SUSPENDED", node="n1")) == "job 17 on n1 is suspended by Slurm"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("CANCELLED", "job 17 was cancelled"),
        ("NODE_FAIL", "a node of job 17 failed on n1"),
        ("PREEMPTED", "job 17 was preempted by a job of higher priority"),
        ("TIMEOUT", "job 17 reached its time limit before the run had ended"),
        ("OUT_OF_MEMORY", "Slurm ended job 17 on n1: it used more than its main memory of 8G"),
        ("FAILED", "job 17 on n1 ended (FAILED), and its supervisor recorded no end"),
        ("UNKNOWN", "Slurm no longer knows job 17, and its supervisor recorded no end"),
    ],
)
def test_how_a_job_ended_is_said_in_words(tmp_path: Path, state: str, expected: str) -> None:
    report = JobReport("17", state, node="n1")
    assert report.phase == "running", "one answer is no proof: it may be queued again just now"
    report = replace(report, confirmed=True)
    assert report.phase == "over"
    assert describe_end(RunFolder(tmp_path), report, "8G").splitlines()[0] == expected


def test_a_failed_job_was_out_of_memory_if_slurm_wrote_that_into_its_output(tmp_path: Path) -> None:
    folder, report = RunFolder(tmp_path), JobReport("17", "FAILED")
    folder.supervisor_output.write_text(
        "slurmstepd: error: StepId=1.batch exceeded memory limit (2 > 1), being killed\n"
    )
    assert "ended (FAILED)" in describe_end(folder, report, None), "that was an earlier job of this run"
    with folder.supervisor_output.open("a") as output:
        output.write("slurmstepd: error: Detected 1 oom-kill event(s) in StepId=17.batch. Some of your processes …\n")
    assert describe_end(folder, report, "2000").endswith(f"dpo-tui resume {folder.id} --set mem=4000M")


@pytest.mark.parametrize(("asked", "next_time"), [(None, "64G"), ("2000", "4000M"), ("64G", "128G"), ("1T", "2T")])
def test_twice_the_memory_is_asked_for_next_time(asked: str | None, next_time: str) -> None:
    assert more_memory(asked) == next_time


def test_what_is_known_of_an_earlier_job_is_not_taken_for_the_newest(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert read_report(folder) is None
    write_job(folder, "17", NOW)
    write_report(folder, JobReport("17", "CANCELLED", t=NOW))
    write_job(folder, "18", NOW)
    folder.job_status.write_text('{"id": "17", "state": "CANCELLED"}')
    assert read_report(folder) == JobReport("18", "PENDING")
    folder.job_status.write_text("torn")
    assert read_report(folder) == JobReport("18", "PENDING")


@pytest.mark.parametrize(
    ("slurms", "ranks", "expected"),
    [("2,3", 1, "2"), ("2,3", 2, "2,3"), ("GPU-abc", 1, "GPU-abc"), (None, 1, "0"), (None, 2, "0,1")],
)
def test_the_workers_see_a_gpu_each_of_those_of_their_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slurms: str | None, ranks: int, expected: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if slurms is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", slurms)
    command = SlurmLauncher().prepare(RunFolder(tmp_path), State(id="r", name="r", ranks=ranks), ["worker"])
    assert command.environment["CUDA_VISIBLE_DEVICES"] == expected
    assert ("torch.distributed.run" in command.argv) == (ranks > 1)


@pytest.mark.parametrize(
    ("kills", "expected"),
    [
        (1, "killed by signal 9 (SIGKILL): it used more than its main memory of 200M"),
        (0, "killed by signal 9 (SIGKILL): someone killed it (the kernel's out-of-memory killer did not run)"),
    ],
)
def test_a_worker_that_the_limit_of_its_job_killed_says_what_to_ask_for(
    submitted: RunFolder, monkeypatch: pytest.MonkeyPatch, kills: int, expected: str
) -> None:
    submitted.config.write_text('[slurm]\nmem = "200M"\n')
    counts = chain([OutOfMemoryKills(5, 9)], repeat(OutOfMemoryKills(5 + kills, 9 + kills)))
    monkeypatch.setattr("dpo_tui.runs.launchers.local.kernel_oom_kills", lambda: next(counts))
    started = SlurmLauncher().start(submitted, Command(["sh", "-c", "kill -9 $$"], dict(os.environ)))
    returncode = until(started.poll, "the worker's end")
    reason = started.end(returncode).reason
    assert reason.splitlines()[0] == expected
    assert ("--set mem=400M" in reason) == bool(kills)


def test_a_job_that_the_run_has_left_behind_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, launcher = RunFolder(tmp_path), SlurmLauncher()
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    assert launcher.own_job(folder) == {"id": "17", "node": "n1", "restarts": 0}
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-2]")
    assert launcher.own_job(folder) == {"id": "17", "node": "n1", "restarts": 0, "nodes": "n[1-2]"}
    write_job(folder, "18", NOW)
    with pytest.raises(RunError, match="belongs to job 18 now; this one, job 17, ends"):
        launcher.own_job(folder)


@pytest.mark.parametrize(
    ("limit", "restarts", "expected"),
    [
        ("0", "0", "requeue_limit is 0"),
        ("2", "2", "it went on 2 times, which is what requeue_limit allows"),
        ("2", "1", "no checkpoint was saved in this job's time"),
    ],
)
def test_a_run_is_not_queued_again_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, restarts: str, expected: str
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    monkeypatch.setenv("DPO_TUI_REQUEUE_LIMIT", limit)
    with pytest.raises(RunError, match=expected):
        SlurmLauncher().requeue(RunFolder(tmp_path), State(id="r", name="r", attempt_started_at=1.0))


def test_a_command_that_hangs_is_given_up_and_one_that_fails_is_quoted() -> None:
    with pytest.raises(RunError, match=r"sleep did not answer within 0\.1 s"):
        slurm_commands.run_command(["sleep", "5"], deadline=0.1)
    with pytest.raises(RunError, match="there is no nosuchprogram here"):
        slurm_commands.run_command(["nosuchprogram"])
    with pytest.raises(RunError, match="ls: cannot access"):
        slurm_commands.run_command(["ls", "/nowhere/at/all"])


@pytest.fixture(name="submitted")
def submitted_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run whose job is 17, in a home of its own; squeue is what the test makes it."""
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    folder = store.create("", name="x", devices=[], launcher="slurm")
    write_job(folder, "17", time.time())
    return folder


def fake_squeue(folder: Path, body: str) -> None:
    for name, text in (("squeue", body), ("sacct", "exit 1")):
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)


def test_an_end_counts_once_slurm_has_said_it_twice(submitted: RunFolder, tmp_path: Path) -> None:
    """A job that is queued again is for a moment one that has ended, and nobody asks again about those."""
    fake_squeue(tmp_path, "echo '17|COMPLETED|N/A||None'")
    slurm_refresh.renew(submitted.path.parent)
    assert status_of(submitted).status == "queued"
    fake_squeue(tmp_path, "echo '17|PENDING|N/A||BeginTime'")
    slurm_refresh.renew(submitted.path.parent)
    assert "BeginTime" in status_of(submitted).reason
    fake_squeue(tmp_path, "echo '17|NODE_FAIL|N/A|n3|None'")
    slurm_refresh.renew(submitted.path.parent)
    slurm_refresh.renew(submitted.path.parent)
    status = status_of(submitted)
    assert (status.status, status.reason) == ("lost", "a node of job 17 failed on n3")
    assert status.job is not None and status.job["state"] == "NODE_FAIL"


def test_a_job_that_nobody_knows_any_more_is_lost(submitted: RunFolder, tmp_path: Path) -> None:
    fake_squeue(tmp_path, "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    for _ in range(2):
        slurm_refresh.renew(submitted.path.parent)
    assert status_of(submitted).reason == "Slurm no longer knows job 17, and its supervisor recorded no end"


def test_while_slurm_does_not_answer_the_last_answer_stays_and_says_so(submitted: RunFolder, tmp_path: Path) -> None:
    fake_squeue(tmp_path, "echo '17|PENDING|N/A||Priority'")
    slurm_refresh.renew(submitted.path.parent)
    fake_squeue(tmp_path, "echo 'squeue: error: Unable to contact slurm controller' >&2; exit 1")
    slurm_refresh.renew(submitted.path.parent)
    assert status_of(submitted).reason == (
        "job 17 waits in Slurm's queue: jobs of higher priority come first (Priority); "
        "squeue: error: Unable to contact slurm controller"
    )


def test_a_status_does_not_wait_for_a_slow_slurm(submitted: RunFolder, tmp_path: Path) -> None:
    waiting = f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done"
    fake_squeue(tmp_path, f"touch {tmp_path}/asked; {waiting}; echo '17|RUNNING|N/A|n1|'")
    assert status_of(submitted).reason == "job 17 waits in Slurm's queue"
    assert not (tmp_path / "go").exists(), "squeue has not answered yet"
    until((tmp_path / "asked").exists, "squeue to be called")
    (tmp_path / "go").touch()
    until(lambda: "has started on n1" in status_of(submitted).reason, "the answer")


def test_one_question_is_asked_for_all_runs_of_a_home(submitted: RunFolder, tmp_path: Path) -> None:
    second = store.create("", name="y", devices=[], launcher="slurm")
    write_job(second, "18", NOW)
    answer = "printf '17|PENDING|N/A||Priority\\n18|PENDING|N/A||Licenses\\n'"
    fake_squeue(tmp_path, f'echo "$@" >> {tmp_path}/calls; {answer}')
    until(lambda: "Priority" in status_of(submitted).reason, "the answer")
    until(lambda: "Licenses" in status_of(second).reason, "the other's")
    assert len((tmp_path / "calls").read_text().splitlines()) == 1


def test_a_run_on_a_host_whose_locks_are_not_seen_is_live_while_its_job_runs(
    submitted: RunFolder, tmp_path: Path
) -> None:
    """And silent for longer than a local run may be: Slurm knows that it has not gone."""
    state = replace(
        state_of(submitted),
        status="running",
        attempt=1,
        attempt_started_at=1.0,
        host="n3",
        boot_id="other",
        queued_at=1.0,
    )
    write_state(submitted, state)
    fake_squeue(tmp_path, "echo '17|RUNNING|N/A|n3|None'")
    os.utime(submitted.state, (1.0, 1.0))
    slurm_refresh.renew(submitted.path.parent)
    status = status_of(submitted)
    assert (status.status, status.live) == ("stalled", True)
    assert status.reason.startswith("on host n3; no sign of life for")


def test_a_running_job_whose_lock_is_not_seen_is_cancelled_at_the_second_request_to_stop_at_once(
    submitted: RunFolder, tmp_path: Path
) -> None:
    write_state(submitted, replace(state_of(submitted), status="running", attempt=1, host="n3", boot_id="other"))
    fake_squeue(tmp_path, "echo '17|RUNNING|N/A|n3|None'")
    (tmp_path / "scancel").write_text(f'#!/bin/bash\necho "$@" >> {tmp_path}/cancelled\n')
    (tmp_path / "scancel").chmod(0o755)
    control_requests.request_stop(submitted, now=True)
    assert (tmp_path / "cancelled").read_text() == "--state=PENDING 17\n", "it has the chance to save"
    control_requests.request_stop(submitted, now=True)
    assert (tmp_path / "cancelled").read_text().splitlines()[-1] == "17"
    assert control_requests.is_requested(submitted, control_requests.STOP_NOW)


def test_a_job_whose_id_cannot_be_recorded_is_cancelled(
    submitted: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, body in (("sbatch", "cat > /dev/null; echo 18"), ("scancel", f'echo "$@" >> {tmp_path}/cancelled')):
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr("dpo_tui.runs.launchers.slurm.write_job", _full_disk)
    with pytest.raises(RunError, match="its job 18 was cancelled: its id cannot be written"):
        SlurmLauncher().start_supervisor(submitted, ["supervisor"])
    assert (tmp_path / "cancelled").read_text() == "18\n"


def _full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")
