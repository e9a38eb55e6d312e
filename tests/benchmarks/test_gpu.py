"""The GPU benchmark on a machine without one: every part runs, and none can spoil the others.

The parts made up here are loaded by child processes, so this module imports nothing heavy at its top.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu_parts.report import page
from benchmarks.gpu_parts.runner import Places, run_part, run_parts
from benchmarks.gpu_parts.session import NotBuilt, Part, Session
from tests.support.repository import ROOT

ENDLESS = 3600


def two_rows(session: Session) -> None:
    """A part with a row that fails and one that does not."""
    session.measure("breaks", lambda: {"ratio": 1 / 0})
    session.measure("works", lambda: {"ratio": 2.0})


def nothing_built(session: Session) -> None:
    """A part that measures a feature that is not there."""

    def missing() -> dict[str, Any]:
        raise NotBuilt("attention for variable lengths")

    session.measure("varlen", missing)


def raises(session: Session) -> None:
    """A part that fails outside its rows."""
    raise OSError("no such device")


def hangs(session: Session) -> None:
    """A part that never ends, with a child of its own."""
    child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({ENDLESS})"])
    session.write("before", pid=child.pid)
    time.sleep(ENDLESS)


def dies(session: Session) -> None:
    """A part whose process is killed, as by a fault in a kernel."""
    os.kill(os.getpid(), signal.SIGSEGV)


def part(measure: Any) -> Part:
    return Part(measure.__name__[0], measure.__name__, measure.__name__, "", 10.0, measure)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("DPO_TUI_HOME", str(scratch / "home"))
    return Places(tmp_path / "gpu.jsonl", tmp_path / "gpu.log", scratch)


def results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def outcomes(lines: Iterable[dict[str, Any]]) -> dict[str, str]:
    return {line["part"]: line["outcome"] for line in lines if "outcome" in line}


def test_a_row_that_raises_is_reported_and_the_next_row_is_measured(places: Places) -> None:
    assert run_part(part(two_rows), places, 60, dry=True)
    breaks, works, end = results(places.results)
    assert breaks["error"] == "ZeroDivisionError: division by zero"
    assert works["ratio"] == 2.0
    assert end["outcome"] == "done"
    assert "ZeroDivisionError" in places.log.read_text(encoding="utf-8")


def test_a_part_that_raises_or_crashes_does_not_stop_the_next(places: Places) -> None:
    parts = [part(raises), part(dies), part(two_rows)]
    assert not run_parts(parts, places, 180, dry=True)
    lines = results(places.results)
    assert outcomes(lines) == {"r": "failed", "d": "failed", "t": "done"}
    reasons = {line["part"]: line["reason"] for line in lines if "outcome" in line}
    assert reasons["r"] == "OSError: no such device"
    assert reasons["d"] == "its process ended with -11"


def test_a_part_over_its_deadline_is_cut_off_with_its_children_and_keeps_its_rows(places: Places) -> None:
    assert not run_part(part(hangs), places, 15, dry=True)
    row, end = results(places.results)
    assert row["row"] == "before"
    assert end["outcome"] == "cut off"
    assert end["reason"] == "not finished after 15 s"
    assert is_gone(row["pid"])


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a killed one may wait for its parent's parent to collect it."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_the_page_names_what_failed_and_what_is_not_built(places: Places) -> None:
    parts = [part(two_rows), part(nothing_built)]
    for one in parts:
        run_part(one, places, 60, dry=True)
    text = page(places.results, parts, "python benchmarks/gpu.py")
    assert re.search(r"\| breaks \| [\d.]+ \|  \| \*\*failed\*\*: ZeroDivisionError: division by zero \|", text)
    assert "| varlen | **not built**: attention for variable lengths |" in text


def test_an_unknown_part_is_refused_with_the_list_of_parts() -> None:
    from benchmarks.gpu_parts.registry import chosen

    with pytest.raises(ValueError, match=r"no part is called warp; there are a \(hardware\), g \(kernels\)"):
        chosen("a,warp")


def test_parts_are_chosen_by_letter_or_name_and_keep_their_order() -> None:
    from benchmarks.gpu_parts.registry import chosen

    assert [one.letter for one in chosen("speed, a")] == ["a", "d"]


@pytest.mark.parametrize(
    "letters", ["a,d,f", pytest.param("", marks=pytest.mark.slow)], ids=["machine, speed, exactness", "all"]
)
def test_the_dry_run_writes_rows_for_every_part_and_the_page(letters: str, tmp_path: Path) -> None:
    from benchmarks.gpu_parts.registry import PARTS, chosen

    parts = chosen(letters) if letters else PARTS
    done = run("--dry-run", "--out", str(tmp_path), *(["--parts", letters] if letters else []))
    lines = results(tmp_path / "gpu.jsonl")
    log = (tmp_path / "gpu.log").read_text(encoding="utf-8")
    assert outcomes(lines) == {one.letter: "done" for one in parts}, log[-3000:]
    assert not [line for line in lines if "error" in line and isinstance(line["error"], str)], log[-3000:]
    for one in parts:
        measured = [line for line in lines if line.get("part") == one.letter and "seconds" in line and "row" in line]
        assert measured, f"part {one.name} measured nothing"
    assert "torch" in lines[0]["machine"]
    assert done.returncode == 0
    assert (tmp_path / "gpu.md").read_text(encoding="utf-8") in done.stdout


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
