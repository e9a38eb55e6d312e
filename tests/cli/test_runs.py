"""`dpo-tui runs`: a table that fits the terminal, or JSON, quickly."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dpo_tui.cli import run_summary_text
from dpo_tui.runs.atomic_files import append_json_line
from tests.support.command_line import CommandLine
from tests.support.supervised_runs import (  # noqa: F401 - a fixture
    begin,
    edit_state,
    ended,
    fresh_home,
    make,
    state_of,
)

pytestmark = pytest.mark.usefixtures("home")
NEW = '{"version": 2, "id": "x", "status": "dreaming"}'


def test_runs_is_a_table_newest_first_that_fits_80_columns(dpo_tui: CommandLine) -> None:
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


def test_runs_json_lists_the_same_as_status_json_does(dpo_tui: CommandLine) -> None:
    folder = begin()
    ended(folder)
    code, out, _ = dpo_tui("runs", "--json")
    assert code == 0
    (listed,) = json.loads(out)
    assert listed == json.loads(dpo_tui("status", "last", "--json")[1])
    assert (listed["status"], listed["step"], listed["dir"]) == ("done", 4, str(folder.path))
    assert {"eta_seconds", "metrics", "advice", "phase", "returncode"} <= set(listed)


def test_a_folder_of_a_newer_version_is_named_and_hides_no_other(dpo_tui: CommandLine) -> None:
    old, new = make("old"), make("new")
    new.state.write_text(NEW)
    code, out, _ = dpo_tui("runs")
    assert code == 0 and old.id in out and "? unknown" in out
    code, out, err = dpo_tui("status", new.id)
    assert (code, out) == (1, "")
    assert "version 2, written by a newer dpo-tui" in err and "Update dpo-tui" in err
    assert dpo_tui("rm", "-y", new.id)[0] == 1 and new.path.exists()


@pytest.mark.parametrize(("width", "noted"), [(80, "ETA 2 min 20 s"), (100, "loss 0.512 · ETA 2 min 20 s")])
def test_a_narrow_table_leaves_out_the_loss_and_cuts_no_time(width: int, noted: str) -> None:
    run = {"status": "running", "id": "20261101-101010-aaaa", "metrics": {"loss": 0.512}, "eta_seconds": 140}
    assert run_summary_text.table([run], width)[1].endswith(noted)


def test_foreign_text_cannot_draw_on_the_terminal(dpo_tui: CommandLine) -> None:
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


def test_columns_are_those_of_a_terminal() -> None:
    """Two for a wide character, none for an accent by itself."""
    assert run_summary_text.columns("✗ 整e\u0301 done") == 1 + 1 + 2 + 1 + 5
