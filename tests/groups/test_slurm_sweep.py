"""Sweeps whose members are jobs of a real Slurm of two nodes; the driver is a process of the login node."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_status import group_status
from dpo_tui.groups.group_store import all_groups
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers.slurm_job import job_id
from tests.support.repository import ROOT
from tests.support.slurm_cluster import SlurmCluster, cluster_of_session, idle_cluster  # noqa: F401 - fixtures
from tests.support.supervised_runs import fresh_home, go, holding, state_of, until  # noqa: F401 - a fixture
from tests.support.sweep_worker import HELD
from tests.support.sweeps import Box, box, counted, kill_driver, kill_drivers, over
from tests.support.tiny import make_pairs

pytestmark = pytest.mark.slow


@pytest.fixture
def login(slurm: SlurmCluster, tmp_path: Path, home: Path, tiny_model: Path, tiny_pairs: Path) -> Iterator[Box]:
    """A login node without a GPU. A job takes a whole node, so that two run and the others pend."""
    here = box(tmp_path, home, "no-gpu", tiny_model, tiny_pairs, launcher='"slurm"', mem='"300M"', cpus_per_task=2)
    here.environment.update(SLURM_CONF=os.environ["SLURM_CONF"], PATH=os.environ["PATH"])
    yield here
    kill_drivers()


def jobs_of(slurm: SlurmCluster) -> list[tuple[str, str]]:
    """Name and state of the jobs that pend or run."""
    lines = slurm.command("squeue", "-h", "-o", "%j|%T").split()
    return [(name, state) for name, _, state in (line.partition("|") for line in lines)]


def submitted(group: GroupFolder) -> list[str]:
    return [job for run in group_status(group).runs if (job := job_id(run))]


def test_a_sweep_is_submitted_trains_on_all_nodes_and_goes_on_after_a_failure(login: Box, slurm: SlurmCluster) -> None:
    login.hold()
    values = ("--sweep", "learning_rate=1e-6,9e-6,2e-6,3e-6")
    command = login.start("train", str(login.folder / "c.toml"), *values, "--yes")
    group = until(lambda: next(iter(all_groups()), None), "the group")
    status = counted(group, running=2, failed=1, queued=1)
    running = [one.run for one in status.members if one.status == "running" and one.run]
    assert {(state_of(run).job or {})["node"] for run in running} == {"n1", "n2"}
    assert len(set(submitted(group))) == 4
    code, out, _ = login.run("status", group.id)
    assert code == 0 and "waits in Slurm's queue" in out, out
    login.release()
    out, err = command.communicate(timeout=120)
    assert (command.returncode, out.split()) == (1, [group.id]), err
    assert "4 runs" in err and "the rate is cursed" in err and "3 done" in err
    code, out, _ = login.run("compare", group.id, "--json")
    assert code == 0 and [one["status"] for one in json.loads(out)["runs"]] == ["done", "done", "done", "failed"]
    assert jobs_of(slurm) == []


def test_stop_cancels_what_pends_and_ends_what_runs_and_resume_goes_on(login: Box, slurm: SlurmCluster) -> None:
    login.hold()
    group = login.sweep("--sweep", "beta=0.05,0.1,0.2,0.3")
    status = counted(group, running=2, queued=2)
    for one in status.members:
        if one.status == "running" and one.run:
            holding(one.run, HELD)
    jobs = submitted(group)
    assert login.run("stop", "tiny")[0] == 0
    stopped = over(group)
    assert (stopped.status, stopped.counts) == ("stopped", {"stopped": 4})
    reasons = sorted(one.reason.partition(";")[0].partition(":")[0] for one in stopped.members)
    assert reasons == ["stopped as asked"] * 2 + ["stopped before it started"] * 2, "what pends was cancelled first"
    until(lambda: jobs_of(slurm) == [], "the jobs' end")
    assert sorted(map(slurm.state_of, jobs)) == ["CANCELLED"] * 2 + ["COMPLETED"] * 2
    login.release()
    code, out, err = login.run("resume", group.id, "--detach")
    assert (code, out.split()) == (0, [group.id]), err
    assert over(group).counts == {"done": 4}
    assert not set(jobs) & set(submitted(group)) and len(store.all_runs()) == 4
    assert [state_of(run).attempt for run in group_status(group).runs].count(2) == 2


def test_no_more_jobs_are_submitted_than_at_most(login: Box, slurm: SlurmCluster) -> None:
    """As `sbatch --array=1-3%1`."""
    login.hold()
    group = login.sweep("--sweep", "beta=0.05,0.1,0.2", "--at-most", "1")
    for number in (1, 2, 3):
        run = until(lambda number=number: group_status(group).members[number - 1].run, "the run")
        assert isinstance(run, RunFolder)
        holding(run, HELD)
        assert [name for name, _ in jobs_of(slurm)] == [f"dpo-tui-{run.id}"]
        go(run)
    assert over(group).counts == {"done": 3}


def test_where_the_login_node_kills_the_driver_jobs_go_on_and_resume_submits_the_others(
    login: Box, slurm: SlurmCluster
) -> None:
    login.hold()
    group = login.sweep("--sweep", "beta=0.05,0.1,0.2", "--at-most", "2")
    counted(group, running=2)
    jobs = submitted(group)
    kill_driver(group)
    assert group_status(group).reason.endswith("was killed; its runs go on, and no other one starts")
    login.release()
    until(lambda: group_status(group).counts["done"] == 2, "the jobs that were submitted")
    assert group_status(group).reason.endswith("was killed; no run of it is started")
    assert login.run("resume", group.id, "--detach")[0] == 0
    assert over(group).counts == {"done": 3}
    assert submitted(group)[:2] == jobs and len(store.all_runs()) == 3


def test_a_group_without_a_driver_is_stopped_all_the_same(login: Box, slurm: SlurmCluster) -> None:
    login.hold()
    group = login.sweep("--sweep", "beta=0.05,0.1,0.2,0.3", "--at-most", "3")
    status = counted(group, running=2, queued=1)
    for one in status.members:
        if one.status == "running" and one.run:
            holding(one.run, HELD)
    kill_driver(group)
    assert login.run("rm", "-y", group.id)[0] == 1, "its jobs live"
    assert login.run("stop", group.id)[0] == 0
    assert counted(group, stopped=3).counts == {"stopped": 3, "planned": 1}
    until(lambda: jobs_of(slurm) == [], "the jobs' end")
    assert login.run("rm", "-y", group.id)[0] == 0
    assert (store.all_runs(), all_groups()) == ([], [])


def test_a_real_sweep_trains_in_jobs_that_share_tokens_and_reference_scores(
    slurm: SlurmCluster, tmp_path: Path, home: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = make_pairs(tmp_path / "many.jsonl", 400)
    settings = {"launcher": '"slurm"', "mem": '"3000M"', "cpus_per_task": 2, "max_steps": 2, "eval_split": 0.5}
    here = box(tmp_path, home, "no-gpu", tiny_model, pairs, **settings)
    here.environment.update(SLURM_CONF=os.environ["SLURM_CONF"], PATH=os.environ["PATH"], PYTHONPATH=str(ROOT))
    monkeypatch.setattr("tests.support.supervised_runs.PATIENCE", 400.0)
    group = here.sweep("--sweep", "beta=0.05,0.1")
    assert over(group).counts == {"done": 2}
    receipts = [json.loads(run.receipt.read_text()) for run in group_status(group).runs]
    assert [one["shortcuts"]["reference_once"]["kept_from_before"]["eval"] for one in receipts] == [False, True]
    assert all((state_of(run).job or {}).get("id") for run in group_status(group).runs)
