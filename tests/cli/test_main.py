"""The entry point of the command line: exit codes, encodings, closed pipes and full disks."""

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import CommandLine
from tests.support.supervised_runs import (  # noqa: F401 - a fixture
    fresh_home,
    make,
)

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize("argv", [["status"], ["logs"], ["stop"], ["checkpoint"], ["resume"], ["rm"]])
def test_an_unknown_run_exits_with_3(dpo_tui: CommandLine, argv: list[str]) -> None:
    make("helpful")
    code, out, err = dpo_tui(*argv, "helpfull")
    assert (code, out) == (3, "")
    assert "no such run: helpfull" in err and "Did you mean helpful?" in err


def run_command(*arguments: str | bytes, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the command as a process of its own."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run([sys.executable, "-m", "dpo_tui", *arguments], check=False, **options)


def test_the_command_also_runs_as_a_module(home: Path) -> None:
    """Where pip put the script on no PATH; and no first line of the list of commands is cut."""
    shown = run_command("--help", env=os.environ | {"COLUMNS": "80"}).stdout.decode()
    assert "  runs " in shown and "..." not in shown.partition("Commands:")[2]
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no full device here")
def test_a_full_disk_under_the_output_is_told_without_a_traceback(home: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = run_command("config", "init", stdout=full)
    assert (done.returncode, done.stderr) == (1, b"error: the output: No space left on device\n")


def test_a_reader_that_went_away_is_no_failure(home: Path) -> None:
    """`dpo-tui logs last | head -1`, under pipefail too."""
    gone, stdout = os.pipe()
    os.close(gone)
    for arguments in (["paths"], ["--help"]):
        done = run_command(*arguments, stdout=stdout)
        assert (done.returncode, done.stderr) == (0, b"")
    os.close(stdout)


def test_a_disk_that_fills_up_leaves_no_half_config_in_the_way(home: Path, tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    done = run_command("config", "init", "-o", str(tmp_path / "c.toml"), preexec_fn=small_files)
    assert done.returncode == 2 and b"cannot be written" in done.stderr
    assert not (tmp_path / "c.toml").exists()


def test_a_sign_that_the_encoding_lacks_is_a_question_mark(home: Path) -> None:
    make("a → b")
    done = run_command("status", "last", env=os.environ | {"PYTHONIOENCODING": "latin-1"})
    assert done.returncode == 0 and b"a ? b" in done.stdout


def test_a_name_that_is_no_text_is_refused(home: Path, tmp_path: Path) -> None:
    """No config, report or run folder could hold it."""
    done = run_command("inspect", os.fsencode(tmp_path) + b"/caf\xe9.jsonl")
    assert done.returncode == 2 and b"is not text in this locale's encoding" in done.stderr
