"""`dpo-tui logs`: whole, its last lines, and followed."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.command_line import CommandLine
from tests.support.supervised_runs import (  # noqa: F401 - a fixture
    begin,
    edit_state,
    fresh_home,
    go,
    holding,
    make,
)

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize(
    ("options", "shown"),
    [([], "one\n\n90%\nlast\n"), (["-n", "2"], "90%\nlast\n"), (["-n", "0"], ""), (["-n", "99"], "one\n\n90%\nlast\n")],
)
def test_logs_are_shown_as_a_terminal_would_leave_them(dpo_tui: CommandLine, options: list[str], shown: str) -> None:
    folder = make()
    folder.train_log.write_bytes(b"one\r\n\n10%\r50%\r90%\nlast")
    edit_state(folder, status="done", attempt=1)
    assert dpo_tui("logs", "last", *options)[:2] == (0, shown)


def test_the_last_lines_of_a_long_log_are_found(dpo_tui: CommandLine) -> None:
    folder = make()
    folder.train_log.write_text("".join(f"line {number} {'x' * 90}\n" for number in range(5000)))
    out = dpo_tui("logs", "last", "-n", "1500")[1].splitlines()
    assert [int(line.split()[1]) for line in out] == list(range(3500, 5000))


def test_logs_of_a_run_without_output_say_why(dpo_tui: CommandLine) -> None:
    make()
    code, out, err = dpo_tui("logs", "last")
    assert (code, out) == (0, "") and "is queued" in err


def test_each_of_several_processes_has_a_log_that_can_be_read(dpo_tui: CommandLine) -> None:
    folder = make()
    folder.ranks.mkdir()
    folder.train_log.write_text("rank 0\n")
    folder.rank_log(1).write_text("rank 1\n")
    edit_state(folder, status="done", attempt=1, ranks=2)
    assert dpo_tui("logs", "last")[:2] == (0, "rank 0\n")
    assert dpo_tui("logs", "last", "--rank", "1")[:2] == (0, "rank 1\n")
    code, out, err = dpo_tui("logs", "last", "--rank", "2")
    assert (code, out) == (2, "") and "trains in 2 processes" in err and "from 0 to 1" in err


def test_logs_follow_until_the_run_ends() -> None:
    folder = begin("--hold-at", 2)
    holding(folder, 2)
    follower = subprocess.Popen(
        [sys.executable, "-c", "from dpo_tui.cli import main; main()", "logs", "-f", "last"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert follower.stdout
    assert [follower.stdout.readline() for _ in range(3)] == ["starting at step 0\n", "step 1\n", "step 2\n"]
    assert follower.poll() is None
    go(folder)
    out, err = follower.communicate(timeout=60)
    assert (follower.returncode, out) == (0, "step 3\nstep 4\n")
    assert f"Run {folder.id} is done." in err


def test_events_and_samples_are_shown_as_the_monitor_words_them(dpo_tui: CommandLine) -> None:
    folder = make()
    folder.events.write_text(
        '{"t": 0, "kind": "warning", "message": "3 pairs\\u001b[2J dropped", "hint": "look"}\n{"t": 1'
    )
    asked = [{"role": "user", "content": "Hi"}]
    answers = [{"step": step, "prompt": asked, "answer": f"answer {step}"} for step in (0, 10, 20)]
    folder.samples.write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    code, out, _ = dpo_tui("logs", "last", "--show", "events")
    assert (code, "\x1b" in out) == (0, False)
    assert "warning     3 pairs" in out and "look" in out
    code, out, _ = dpo_tui("logs", "last", "--show", "samples")
    assert out.split() == ["Hi", "─", "before", "training", "answer", "0", "─", "step", "20", "answer", "20"]
    code, _, err = dpo_tui("logs", "last", "--show", "samples", "-n", "3")
    assert code == 2 and "goes with no other option" in err
