"""`dpo-tui stop`, `checkpoint`, `resume` and `rm`, with real runs."""

import io

import pytest

from dpo_tui.runs import checkpoint_checksums, store
from dpo_tui.runs.status import status_of
from dpo_tui.train.worker.checkpoints import mark_complete
from tests.support.command_line import CommandLine
from tests.support.supervised_runs import (  # noqa: F401 - a fixture
    begin,
    ended,
    fresh_home,
    has_status,
    holding,
    until,
)

pytestmark = pytest.mark.usefixtures("home")


def test_stop_checkpoint_resume_and_rm_steer_a_real_run(dpo_tui: CommandLine) -> None:
    folder = begin("--hold-at", 3)
    holding(folder, 3)
    assert "saves a checkpoint at its next step and goes on" in dpo_tui("checkpoint", "last")[2]
    until((folder.checkpoints / "checkpoint-3").is_dir, "the checkpoint")
    code, _, err = dpo_tui("rm", "-y", "last")
    assert code == 1 and "is still running" in err
    assert dpo_tui("stop", "last")[0] == 0
    assert ended(folder).status == "stopped"
    code, _, err = dpo_tui("stop", "last")
    assert code == 1 and f"run {folder.id} is stopped: it cannot be stopped" in err
    code, out, err = dpo_tui("resume", "last")
    assert (code, out) == (0, f"{folder.id}\n") and "checkpoint-3" in err
    assert ended(folder).status == "done"
    code, _, err = dpo_tui("resume", "last")
    assert code == 1 and "nothing left to resume" in err
    assert dpo_tui("rm", "--yes", "last")[0] == 0
    assert store.all_runs() == []


def test_resume_says_aloud_that_it_starts_from_the_beginning(dpo_tui: CommandLine) -> None:
    folder = begin("--no-checkpoints", "--exit", 1)
    ended(folder)
    assert "never reached a checkpoint: it starts from the beginning" in dpo_tui("resume", "last")[2]
    ended(folder)


def test_resume_names_the_whole_checkpoint_first_and_then_what_is_passed_over(dpo_tui: CommandLine) -> None:
    folder = begin("--no-checkpoints", "--exit", 1)
    ended(folder)
    for step in (10, 20, 30):
        checkpoint = folder.checkpoints / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "optimizer.pt").write_bytes(b"whole")
        mark_complete(checkpoint)
    (folder.checkpoints / "checkpoint-20" / "optimizer.pt").write_bytes(b"other")
    (folder.checkpoints / "checkpoint-30" / "optimizer.pt").write_bytes(b"cut")
    said = dpo_tui("resume", "last")[2].splitlines()
    assert said[:3] == [
        f"Run {folder.id} goes on from checkpoint-10.",
        "checkpoint-30 is not used: it is incomplete.",
        "checkpoint-20 is not used: its optimizer.pt is damaged.",
    ]
    ended(folder)


def test_the_files_of_large_checkpoints_are_left_to_the_worker(
    dpo_tui: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_checksums, "_MOST_READ", 4)
    folder = begin("--no-checkpoints", "--exit", 1)
    ended(folder)
    checkpoint = folder.checkpoints / "checkpoint-10"
    checkpoint.mkdir(parents=True)
    (checkpoint / "optimizer.pt").write_bytes(b"whole")
    mark_complete(checkpoint)
    assert "goes on from checkpoint-10, if its files are as they were written" in dpo_tui("resume", "last")[2]
    ended(folder)


def test_stop_now_is_told_apart(dpo_tui: CommandLine) -> None:
    folder = begin("--hold-at", 2, "--stubborn")
    holding(folder, 2)
    assert "ends at once" in dpo_tui("stop", "--now", "last")[2]
    has_status(folder, "stopping", "stopped")
    assert ended(folder).returncode == -9


def test_rm_deletes_nothing_where_it_cannot_ask(dpo_tui: CommandLine) -> None:
    folder = begin("--exit", 0)
    ended(folder)
    code, out, err = dpo_tui("rm", "last")
    assert (code, out) == (2, "") and f"dpo-tui rm --yes {folder.id}" in err
    assert [run.id for run in store.all_runs()] == [folder.id]


def test_rm_takes_several_runs_each_once_and_none_if_one_is_unknown(dpo_tui: CommandLine) -> None:
    folders = [begin("--exit", 0), begin("--exit", 0), begin("--exit", 0)]
    for folder in folders:
        ended(folder)
    first, second, third = (folder.id for folder in folders)
    assert dpo_tui("rm", "-y", first, "no-such-run")[0] == 3
    assert len(store.all_runs()) == 3
    code, _, err = dpo_tui("rm", "-y", first, second, first)
    assert code == 0 and err.count("Deleted run") == 2
    assert [run.id for run in store.all_runs()] == [third]


def test_a_run_that_cannot_be_deleted_keeps_no_other_from_being_deleted(dpo_tui: CommandLine) -> None:
    running = begin("--hold-at", 2)
    holding(running, 2)
    over, done = begin("--exit", 0), begin("--exit", 0)
    ended(over)
    ended(done)
    code, _, err = dpo_tui("rm", "-y", running.id, over.id)
    assert code == 1 and f"run {running.id} is still running" in err and f"Deleted run {over.id}" in err
    code, _, err = dpo_tui("stop", done.id, running.id)
    assert code == 1 and f"run {done.id} is done: it cannot be stopped" in err
    assert ended(running).status == "stopped"


@pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("n\n", 1), ("", 1)])
def test_rm_asks_in_a_terminal(dpo_tui: CommandLine, monkeypatch: pytest.MonkeyPatch, answer: str, left: int) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    ended(begin("--exit", 0))
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    dpo_tui("rm", "last")
    assert len(store.all_runs()) == left


def test_resume_in_a_terminal_follows_to_the_end_without_repeating_what_was_shown(
    dpo_tui: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = begin("--hold-at", 3)
    holding(folder, 3)
    assert dpo_tui("stop", "last")[0] == 0
    assert ended(folder).status == "stopped"
    monkeypatch.setattr("dpo_tui.cli.run_control.is_terminal", lambda: True)
    code, out, err = dpo_tui("resume", "last")
    assert (code, out) == (0, f"{folder.id}\n") and status_of(folder).status == "done"
    assert "Watch it with" not in err
    steps = [line.split()[1] for line in err.splitlines() if line.startswith("step ")]
    assert steps and "1" not in steps and len(steps) == len(set(steps))


def test_resume_takes_several_runs_and_detaches_where_it_is_asked_to(
    dpo_tui: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [begin("--no-checkpoints", "--exit", 1), begin("--no-checkpoints", "--exit", 1)]
    for folder in folders:
        ended(folder)
    monkeypatch.setattr("dpo_tui.cli.run_control.is_terminal", lambda: True)
    first, second = (folder.id for folder in folders)
    code, out, err = dpo_tui("resume", "--detach", first, second)
    assert (code, out) == (0, f"{first}\n{second}\n") and err.count("Watch it with") == 2
    for folder in folders:
        ended(folder)
    code, out, err = dpo_tui("resume", first, "no-such-run")
    assert (code, out) == (3, ""), "nothing is resumed where one is unknown"
