"""Files of a run with values of wrong types: that one run is unreadable, and no other one is harmed."""

import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpo_tui.cli import cli
from dpo_tui.errors import RunError
from dpo_tui.runs import control_requests, queue, run_lock, store
from dpo_tui.runs.checkpoint_checksums import damaged_file, newest_whole
from dpo_tui.runs.complete_checkpoints import is_complete, newest_complete
from dpo_tui.runs.devices import Machine
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers.slurm_job import JobReport, describe_end, describe_pending, describe_running, read_report
from dpo_tui.runs.ranks import RankReport, end_of_ranks, read_reports
from dpo_tui.runs.state import State, read_state
from dpo_tui.runs.status import Progress, status_of
from dpo_tui.runs.typed_documents import wrong_field
from dpo_tui.views.run_list import RunList
from tests.support.supervised_runs import (  # noqa: F401 - a fixture
    begin,
    edit_state,
    fresh_home,
    holding,
    make,
    state_of,
    supervised,
    until,
)

pytestmark = pytest.mark.usefixtures("home")

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["queued", "running", "done", "gpu:0", "\0", "slurm", 10**400]),
)
ANY_JSON = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
MANY = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)


def names_of(kind: type) -> list[str]:
    return [item.name for item in fields(kind)]


def write(path: Path, document: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))


@pytest.fixture(name="runs")
def two_runs() -> Iterator[tuple[RunFolder, RunFolder]]:
    """A run whose files are to be wrong, and a later one that waits for the same GPU."""
    yield make("wrong", devices=["gpu:0"]), make("other", devices=["gpu:0"])


@pytest.fixture
def held_runs(runs: tuple[RunFolder, RunFolder]) -> Iterator[tuple[RunFolder, RunFolder]]:
    """The two runs, the first of them held by a supervisor."""
    with supervised(runs[0]):
        yield runs


def everything_else_goes_on(wrong: RunFolder, other: RunFolder) -> dict[str, Any]:
    """Do what reads all runs; return what the list says about the one whose files are wrong."""
    listed = CliRunner().invoke(cli, ["runs"])
    assert listed.exit_code == 0, listed.output
    assert wrong.id in listed.output and other.id in listed.output
    as_json = CliRunner().invoke(cli, ["runs", "--json"])
    assert as_json.exit_code == 0, as_json.output
    app = RunList()
    app.poll(time.time())
    assert [one.id for one in app.summaries] == [other.id, wrong.id]
    state = read_state(other)
    assert state is not None
    queue.decide(other, state, Machine())
    queue.devices_in_use(wrong.path.parent)
    assert store.find("other").id == other.id
    about: dict[str, Any] = next(one.about for one in app.summaries if one.id == wrong.id)
    return about


@given(name=st.sampled_from(names_of(State)), value=ANY_JSON, status=st.sampled_from(["queued", "running", "done"]))
@MANY
def test_a_wrong_state_harms_no_other_run(
    runs: tuple[RunFolder, RunFolder], name: str, value: Any, status: str
) -> None:
    wrong, other = runs
    document = {**State(id=wrong.id, name="wrong", devices=["gpu:0"]).to_dict(), "status": status, name: value}
    write(wrong.state, document)
    about = everything_else_goes_on(wrong, other)
    if not (type(value) is int and name == "version") and wrong_field(State, {name: value}):
        assert about["status"] == "unknown"
        assert wrong.id in about["reason"] and f"{name} is " in about["reason"]


@given(name=st.sampled_from([*names_of(Progress), "anything"]), value=ANY_JSON)
@MANY
def test_a_wrong_progress_harms_no_run(held_runs: tuple[RunFolder, RunFolder], name: str, value: Any) -> None:
    wrong, other = held_runs
    edit_state(wrong, status="running", attempt=1)
    write(wrong.progress, {"phase": "train", "done": 1, "total": 9, "unit": "steps", "t": time.time(), name: value})
    about = everything_else_goes_on(wrong, other)
    assert about["status"] in {"running", "starting", "stalled"}
    assert CliRunner().invoke(cli, ["status", wrong.id]).exit_code == 0


@given(name=st.sampled_from(names_of(RankReport)), value=ANY_JSON)
@MANY
def test_a_wrong_report_of_a_rank_counts_as_none(runs: tuple[RunFolder, RunFolder], name: str, value: Any) -> None:
    wrong, other = runs
    report = {"rank": 1, "world_size": 2, "host": "n", "t": time.time(), "phase": "train", "code": 1, name: value}
    write(wrong.rank_report(1), report)
    everything_else_goes_on(wrong, other)
    end_of_ranks(read_reports(wrong), 2)
    assert CliRunner().invoke(cli, ["status", wrong.id]).exit_code == 0


@given(name=st.sampled_from([*names_of(JobReport), "job.json"]), value=ANY_JSON)
@MANY
def test_a_wrong_report_of_a_job_counts_as_none(runs: tuple[RunFolder, RunFolder], name: str, value: Any) -> None:
    wrong, _ = runs
    write(wrong.job, {"id": value if name == "job.json" else "7", "submitted_at": 0})
    write(wrong.job_status, {"id": "7", "state": "PENDING", "reason": "Priority", "t": time.time(), name: value})
    report = read_report(wrong)
    if report is not None:
        assert describe_pending(report) and describe_running(report) and describe_end(wrong, report, None)
        assert report.phase in {"pending", "running", "over"}


@given(name=st.sampled_from(["files", "crc32", "a size", "a checksum", "a name"]), value=ANY_JSON)
@MANY
def test_a_wrong_marker_makes_its_checkpoint_incomplete_and_no_other(
    runs: tuple[RunFolder, RunFolder], name: str, value: Any
) -> None:
    checkpoints = runs[0].checkpoints
    shutil.rmtree(checkpoints, ignore_errors=True)
    checkpoints.mkdir()
    for step in (1, 2):
        write(checkpoints / f"checkpoint-{step}" / "a.json", {})
        write(checkpoints / f"checkpoint-{step}" / "complete.json", {"files": {"a.json": 2}})
    marker: dict[str, Any] = {"files": {"a.json": 2}, "crc32": {}}
    if name in marker:
        marker[name] = value
    elif name == "a name":
        marker["files"][value if isinstance(value, str) else "/dev/zero"] = 0
    else:
        marker["files" if name == "a size" else "crc32"]["a.json"] = value
    write(checkpoints / "checkpoint-2" / "complete.json", marker)
    newest, _ = newest_complete(checkpoints)
    whole, _, _ = newest_whole(checkpoints)
    assert newest is not None and whole is not None
    if is_complete(checkpoints / "checkpoint-2"):
        damaged_file(checkpoints / "checkpoint-2")
    else:
        assert newest.name == whole.name == "checkpoint-1"


def test_a_run_that_cannot_be_read_is_removed_and_one_that_lives_is_not(runs: tuple[RunFolder, RunFolder]) -> None:
    wrong, other = runs
    write(wrong.state, {**state_of(wrong).to_dict(), "queued_at": "soon"})
    with supervised(wrong):
        refused = CliRunner().invoke(cli, ["rm", "--yes", wrong.id])
        assert isinstance(refused.exception, RunError) and "is still running" in refused.exception.message
    removed = CliRunner().invoke(cli, ["rm", "--yes", wrong.id])
    assert removed.exit_code == 0, removed.output
    assert [run.id for run in store.all_runs()] == [other.id]


def test_a_run_that_cannot_be_read_and_whose_worker_lives_is_not_removed(runs: tuple[RunFolder, RunFolder]) -> None:
    wrong, _ = runs
    own_start = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    write(wrong.state, {"id": wrong.id, "name": 5, "worker_pid": os.getpid(), "worker_start": own_start})
    with pytest.raises(RunError, match="is still running"):
        store.remove(wrong)


@pytest.mark.parametrize("text", [None, "", '{"queued_at": "soon"}'], ids=["gone", "torn", "wrong"])
def test_a_live_run_whose_state_is_gone_or_wrong_is_stopped_with_a_checkpoint(text: str | None) -> None:
    folder = begin("--hold-at", 2)
    holding(folder, 2)
    folder.state.unlink()
    if text is not None:
        folder.state.write_text(text)
    if text != '{"queued_at": "soon"}':
        assert (status_of(folder).status, status_of(folder).live) == ("running", True)
    asked = CliRunner().invoke(cli, ["stop", folder.id])
    assert asked.exit_code == 0, asked.output
    until(lambda: run_lock.owner(folder.lock) is None, "the supervisor to end")
    assert state_of(folder).status == "stopped", "written again, as a whole"


def test_a_run_without_a_state_that_nobody_supervises_cannot_be_stopped() -> None:
    folder = make()
    folder.state.unlink()
    with pytest.raises(RunError, match="not running"):
        control_requests.request_stop(folder)
    assert not (folder.control / control_requests.STOP).exists()


@pytest.mark.parametrize(
    ("name", "value", "clause"),
    [
        ("queued_at", "soon", "queued_at is 'soon' and not a number"),
        ("queued_at", math.nan, "queued_at is nan and not a number"),
        ("attempt", True, "attempt is True and not a whole number"),
        ("devices", [["a"]], "devices is [['a']] and not a list"),
        ("worker_pid", "7", "worker_pid is '7' and not a whole number or null"),
        ("launcher", ["local"], "launcher is ['local'] and not a text"),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_its_type(name: str, value: object, clause: str) -> None:
    assert wrong_field(State, {name: value}) == clause


def test_what_we_write_ourselves_has_no_wrong_field() -> None:
    assert wrong_field(State, state_of(make(devices=["gpu:1"])).to_dict()) == ""
    assert wrong_field(JobReport, JobReport("7", "PENDING").to_document()) == ""
