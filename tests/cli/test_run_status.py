"""`dpo-tui status`: how a run is doing and what can be done next."""

import json
import time

import pytest

from dpo_tui.cli import run_summary_text
from dpo_tui.runs.atomic_files import append_json_line
from dpo_tui.runs.ranks import Rank, RankReporter
from tests.support.command_line import CommandLine
from tests.support.supervised_runs import (  # noqa: F401 - a fixture
    edit_state,
    fresh_home,
    make,
    supervised,
)

pytestmark = pytest.mark.usefixtures("home")


def test_not_a_number_is_null_in_json(dpo_tui: CommandLine) -> None:
    folder = make()
    folder.metrics.write_text('{"step": 1, "loss": NaN}\n')
    assert json.loads(dpo_tui("status", "last", "--json")[1])["metrics"] == {"step": 1, "loss": None}


def test_status_says_what_each_of_several_processes_does(dpo_tui: CommandLine) -> None:
    folder = make("two")
    now = time.time()
    edit_state(folder, status="running", attempt=1, started_at=now, attempt_started_at=now, ranks=2)
    folder.progress.write_text(json.dumps({"step": 7, "max_steps": 20, "phase": "train", "t": now, "attempt": 1}))
    for number in (0, 1):
        reporter = RankReporter(folder, Rank(number, number, 2))
        reporter.memory(10.06 + number)
        reporter.heartbeat("train", step=7 + number)
    document = json.loads(folder.rank_report(1).read_text())
    folder.rank_report(1).write_text(json.dumps(document | {"t": now - 40}))
    with supervised(folder):
        out = dpo_tui("status", "two")[1]
        found = json.loads(dpo_tui("status", "two", "--json")[1])
    assert "2 processes" in out
    assert "rank 0: training, step 7, 10.1 GB · rank 1: training, step 8, 11.1 GB, silent for 40 s" in " ".join(
        out.split()
    )
    assert found["ranks"] == 2 and [one["step"] for one in found["rank_reports"]] == [7, 8]
    assert json.loads(dpo_tui("runs", "--json")[1])[0]["rank_reports"] == found["rank_reports"]


def test_job_nodes_and_processes_are_in_the_list_in_status_and_in_json(
    dpo_tui: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make("two")
    now = time.time()
    job = {"id": "4711", "node": "n1", "restarts": 0, "nodes": "n[1-2]"}
    edit_state(folder, status="running", attempt=1, started_at=now, attempt_started_at=now, ranks=2, job=job)
    folder.progress.write_text(json.dumps({"step": 7, "max_steps": 20, "phase": "train", "t": now, "attempt": 1}))
    for number in (0, 1):
        monkeypatch.setenv("SLURMD_NODENAME", f"n{number + 1}")
        RankReporter(folder, Rank(number, 0, 2)).heartbeat("train", step=7)
    with supervised(folder):
        narrow = dpo_tui("runs")[1]
        monkeypatch.setattr("dpo_tui.cli.runs.terminal_columns", lambda: 120)
        listed, out = dpo_tui("runs")[1], " ".join(dpo_tui("status", "two")[1].split())
        found = json.loads(dpo_tui("status", "two", "--json")[1])
    assert "Training · 2 processes" in narrow and "Training · job 4711 on n[1-2] · 2 processes" in listed
    assert "2 processes on 2 nodes · job 4711 on n[1-2]" in out
    assert "rank 0 on n1: training, step 7 · rank 1 on n2: training, step 7" in out
    assert (found["ranks"], found["job"]) == (2, job)
    assert [one["node"] for one in found["rank_reports"]] == ["n1", "n2"]


def test_status_says_how_it_goes_and_what_one_can_do(dpo_tui: CommandLine) -> None:
    """Accuracy and margin, in words and numbers."""
    folder = make("helpful")
    now = time.time()
    edit_state(folder, status="running", attempt=2, started_at=now - 7200, attempt_started_at=now - 60)
    folder.progress.write_text(
        json.dumps({"phase": "train", "step": 412, "max_steps": 1125, "epoch": 1.1, "t": now, "done": 412})
    )
    metrics = {"loss": 0.512, "rewards/accuracies": 0.7125, "rewards/margins": 0.38, "step_seconds": 6.0}
    folder.metrics.write_text(json.dumps({"t": now, "step": 412, **metrics}) + "\n")
    append_json_line(folder.events, {"t": now, "kind": "advice", "severity": "info", "message": "Healthy."})
    with supervised(folder):
        code, out, _ = dpo_tui("status", "helpful")
    assert code == 0
    assert "● running helpful" in out
    assert "step 412 of 1,125 (36 %)" in out and "ETA 1 h 11 min" in out
    assert "loss 0.512 · accuracy 0.713 · margin 0.38" in out
    assert "started 2 h ago · attempt 2" in out and "advice: Healthy." in out
    assert str(folder.path) in out and f"dpo-tui stop {folder.id}" in out
    assert all(len(line) <= 80 for line in out.splitlines() if str(folder.path) not in line)


@pytest.mark.parametrize("status", ["queued", "running", "stalled", "stopping", "failed", "stopped", "lost", "done"])
def test_what_can_be_done_next_fits_80_columns(status: str) -> None:
    lines = run_summary_text.next_steps({"id": make().id, "status": status, "advice": {"remedy": {"beta": 0.5}}})
    assert len(lines) > 1 and max(map(len, lines)) <= 80
    assert "dpo-tui config fix" in lines[-1]


def test_status_of_a_lost_run_leads_to_resume(dpo_tui: CommandLine) -> None:
    folder = make()
    edit_state(folder, status="running", attempt=1, boot_id="0" * 36)
    out = dpo_tui("status", "last")[1]
    assert "⚑ lost" in out and "the box restarted while it ran" in out and f"dpo-tui resume {folder.id}" in out
