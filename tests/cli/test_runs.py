"""`runs`, `status`, `logs`, `stop`, `checkpoint`, `resume`, `rm`: the command line's contract, with real runs."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.cli import main, run_summary_text
from dpo_tui.runs import store
from dpo_tui.runs.atomic_files import append_json_line
from tests.support.supervised_runs import (  # noqa: F401 - a fixture
    begin,
    edit_state,
    ended,
    fresh_home,
    go,
    has_status,
    holding,
    make,
    state_of,
    supervised,
    until,
)

pytestmark = pytest.mark.usefixtures("home")
Run = Callable[..., tuple[int, str, str]]
NEW = '{"version": 2, "id": "x", "status": "dreaming"}'


@pytest.fixture(name="dpo_tui")
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line; gives exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*argv: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dpo-tui", *argv])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


def test_runs_is_a_table_newest_first_that_fits_80_columns(dpo_tui: Run) -> None:
    """Watched over SSH, in a small terminal."""
    assert dpo_tui("runs")[:2] == (0, "")
    failed, waits = make("整" * 30), make("helpful-8b")
    reason = "killed by signal 9 (SIGKILL): someone killed it, or the kernel ran out of memory"
    edit_state(failed, status="failed", reason=reason, attempt=1)
    code, out, _ = dpo_tui("runs")
    head, first, second = out.splitlines()
    assert code == 0 and head.split() == ["status", "id", "name", "step"]
    assert "◌ queued" in first and waits.id in first and "helpful-8b" in first
    assert "✗ failed" in second and failed.id in second and "killed by signal 9" in second
    assert all(run_summary_text.columns(line) <= 80 for line in out.splitlines())


def test_runs_json_lists_the_same_as_status_json_does(dpo_tui: Run) -> None:
    folder = begin()
    ended(folder)
    code, out, _ = dpo_tui("runs", "--json")
    assert code == 0
    (listed,) = json.loads(out)
    assert listed == json.loads(dpo_tui("status", "last", "--json")[1])
    assert (listed["status"], listed["step"], listed["dir"]) == ("done", 4, str(folder.path))
    assert {"eta_seconds", "metrics", "advice", "phase", "returncode"} <= set(listed)


def test_a_folder_of_a_newer_version_is_named_and_hides_no_other(dpo_tui: Run) -> None:
    old, new = make("old"), make("new")
    new.state.write_text(NEW)
    code, out, _ = dpo_tui("runs")
    assert code == 0 and old.id in out and "? unknown" in out
    code, out, err = dpo_tui("status", new.id)
    assert (code, out) == (1, "")
    assert "version 2, written by a newer dpo-tui" in err and "Update dpo-tui" in err
    assert dpo_tui("rm", "-y", new.id)[0] == 1 and new.path.exists()


def test_not_a_number_is_null_in_json(dpo_tui: Run) -> None:
    folder = make()
    folder.metrics.write_text('{"step": 1, "loss": NaN}\n')
    assert json.loads(dpo_tui("status", "last", "--json")[1])["metrics"] == {"step": 1, "loss": None}


@pytest.mark.parametrize(("width", "noted"), [(80, "ETA 2 min 20 s"), (100, "loss 0.512 · ETA 2 min 20 s")])
def test_a_narrow_table_leaves_out_the_loss_and_cuts_no_time(width: int, noted: str) -> None:
    run = {"status": "running", "id": "20261101-101010-aaaa", "metrics": {"loss": 0.512}, "eta_seconds": 140}
    assert run_summary_text.table([run], width)[1].endswith(noted)


def test_status_says_how_it_goes_and_what_one_can_do(dpo_tui: Run) -> None:
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
    assert "step 412 of 1,125 (37 %)" in out and "ETA 1 h 11 min" in out
    assert "loss 0.512 · accuracy 0.713 · margin 0.38" in out
    assert "started 2 h ago · attempt 2" in out and "advice: Healthy." in out
    assert str(folder.path) in out and f"dpo-tui stop {folder.id}" in out
    assert all(len(line) <= 80 for line in out.splitlines() if str(folder.path) not in line)


@pytest.mark.parametrize("status", ["queued", "running", "stalled", "stopping", "failed", "stopped", "lost", "done"])
def test_what_can_be_done_next_fits_80_columns(status: str) -> None:
    lines = run_summary_text.next_steps({"id": make().id, "status": status, "advice": {"remedy": {"beta": 0.5}}})
    assert len(lines) > 1 and max(map(len, lines)) <= 80
    assert "dpo-tui config fix" in lines[-1]


def test_status_of_a_lost_run_leads_to_resume(dpo_tui: Run) -> None:
    folder = make()
    edit_state(folder, status="running", attempt=1, boot_id="0" * 36)
    out = dpo_tui("status", "last")[1]
    assert "⚑ lost" in out and "the box restarted while it ran" in out and f"dpo-tui resume {folder.id}" in out


def test_foreign_text_cannot_draw_on_the_terminal(dpo_tui: Run) -> None:
    folder = make("evil\x1b[2J\x1b]0;title\x07\nname")
    edit_state(folder, status="failed", reason="\x1b[31mred\x1b[0m\r\x9b2J", attempt=1)
    append_json_line(folder.events, {"kind": "advice", "message": "\x1b]52;c;Zm9v\x07paste"})
    folder.train_log.write_bytes(b"\x1b[1mbold\x1b[0m\x07\n\xff\n")
    for argv in (["runs"], ["status", "last"], ["logs", "last"]):
        out = dpo_tui(*argv)[1]
        assert "\x1b" not in out and "\x07" not in out and "\x9b" not in out, argv
    assert "bold" in dpo_tui("logs", "last")[1]


def test_without_utf8_the_signs_are_ascii(home: Path) -> None:
    make("plain")
    seen = subprocess.run(
        [sys.executable, "-c", "from dpo_tui.cli import main; main()", "runs"],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii:replace", "DPO_TUI_HOME": str(home)},
    )
    assert b". queued" in seen.stdout and b"?" not in seen.stdout


@pytest.mark.parametrize("argv", [["status"], ["logs"], ["stop"], ["checkpoint"], ["resume"], ["rm"]])
def test_an_unknown_run_exits_with_3(dpo_tui: Run, argv: list[str]) -> None:
    make("helpful")
    code, out, err = dpo_tui(*argv, "helpfull")
    assert (code, out) == (3, "")
    assert "no such run: helpfull" in err and "Did you mean helpful?" in err


@pytest.mark.parametrize(
    ("options", "shown"),
    [([], "one\n\n90%\nlast\n"), (["-n", "2"], "90%\nlast\n"), (["-n", "0"], ""), (["-n", "99"], "one\n\n90%\nlast\n")],
)
def test_logs_are_shown_as_a_terminal_would_leave_them(dpo_tui: Run, options: list[str], shown: str) -> None:
    folder = make()
    folder.train_log.write_bytes(b"one\r\n\n10%\r50%\r90%\nlast")
    edit_state(folder, status="done", attempt=1)
    assert dpo_tui("logs", "last", *options)[:2] == (0, shown)


def test_the_last_lines_of_a_long_log_are_found(dpo_tui: Run) -> None:
    folder = make()
    folder.train_log.write_text("".join(f"line {number} {'x' * 90}\n" for number in range(5000)))
    out = dpo_tui("logs", "last", "-n", "1500")[1].splitlines()
    assert [int(line.split()[1]) for line in out] == list(range(3500, 5000))


def test_logs_of_a_run_without_output_say_why(dpo_tui: Run) -> None:
    make()
    code, out, err = dpo_tui("logs", "last")
    assert (code, out) == (0, "") and "is queued" in err


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


def test_stop_checkpoint_resume_and_rm_steer_a_real_run(dpo_tui: Run) -> None:
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
    assert dpo_tui("rm", "last")[0] == 0, "without a terminal it does not ask"
    assert store.all_runs() == []


def test_resume_says_aloud_that_it_starts_from_the_beginning(dpo_tui: Run) -> None:
    folder = begin("--no-checkpoints", "--exit", 1)
    ended(folder)
    assert "never reached a checkpoint: it starts from the beginning" in dpo_tui("resume", "last")[2]
    ended(folder)


def test_stop_now_is_told_apart(dpo_tui: Run) -> None:
    folder = begin("--hold-at", 2, "--stubborn")
    holding(folder, 2)
    assert "ends at once" in dpo_tui("stop", "--now", "last")[2]
    has_status(folder, "stopping", "stopped")
    assert ended(folder).returncode == -9


def spoken(*words: str | bytes, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the command as a process of its own."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run([sys.executable, "-m", "dpo_tui", *words], check=False, **options)


def test_the_command_also_runs_as_a_module(home: Path) -> None:
    """Where pip put the script on no PATH; and no first line of the list of commands is cut."""
    shown = spoken("--help", env=os.environ | {"COLUMNS": "80"}).stdout.decode()
    assert "  runs " in shown and "..." not in shown.partition("Commands:")[2]
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no full device here")
def test_a_full_disk_under_the_output_is_told_without_a_traceback(home: Path) -> None:
    with open("/dev/full", "wb") as full:
        ended = spoken("config", "init", stdout=full)
    assert (ended.returncode, ended.stderr) == (1, b"error: the output: No space left on device\n")


def test_a_reader_that_went_away_is_no_failure(home: Path) -> None:
    """`dpo-tui logs last | head -1`, under pipefail too."""
    gone, stdout = os.pipe()
    os.close(gone)
    for words in (["paths"], ["--help"]):
        ended = spoken(*words, stdout=stdout)
        assert (ended.returncode, ended.stderr) == (0, b"")
    os.close(stdout)


def test_a_disk_that_fills_up_leaves_no_half_config_in_the_way(home: Path, tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    ended = spoken("config", "init", "-o", str(tmp_path / "c.toml"), preexec_fn=small_files)
    assert ended.returncode == 2 and b"cannot be written" in ended.stderr
    assert not (tmp_path / "c.toml").exists()


def test_a_sign_that_the_encoding_lacks_is_a_question_mark(home: Path) -> None:
    make("a → b")
    ended = spoken("status", "last", env=os.environ | {"PYTHONIOENCODING": "latin-1"})
    assert ended.returncode == 0 and b"a ? b" in ended.stdout


def test_a_name_that_is_no_text_is_refused(home: Path, tmp_path: Path) -> None:
    """No config, report or run folder could hold it."""
    ended = spoken("inspect", os.fsencode(tmp_path) + b"/caf\xe9.jsonl")
    assert ended.returncode == 2 and b"is not text in this locale's encoding" in ended.stderr


def test_listing_runs_loads_nothing_heavy(home: Path) -> None:
    """`dpo-tui runs` answers at once: no pydantic, rich, textual or torch on its way."""
    folder = make()
    edit_state(folder, status="running", attempt=1)
    assert state_of(folder).status == "running"
    code = (
        "import sys\nfrom dpo_tui.cli import cli\n"
        "cli.main(['runs', *sys.argv[1:]], standalone_mode=False)\n"
        "own = {name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)\n"
        "sys.stderr.write(' '.join(sorted(name for name in own if not name.startswith('_'))))"
    )
    for option in ([], ["--json"]):
        seen = subprocess.run([sys.executable, "-c", code, *option], capture_output=True, text=True, check=True)
        assert set(seen.stderr.split()) - {"site", "sitecustomize", "usercustomize"} == {"click", "dpo_tui"}
