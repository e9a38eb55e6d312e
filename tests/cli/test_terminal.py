"""The app in a real terminal: what terminals can and cannot do, lost connections, silence when nothing happens."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.app import ended_run
from tests.support.terminal import NOISE, ROOT, Terminal


@pytest.fixture
def opened(tmp_path) -> Iterator[list[Terminal]]:
    """Terminals that are closed at the end, whatever happens."""
    terminals: list[Terminal] = []
    yield terminals
    for terminal in terminals:
        terminal.close()


def start(opened: list[Terminal], home: Path, *arguments: str, size=(80, 24), **environment: str) -> Terminal:
    opened.append(Terminal(list(arguments), home, size, environment))
    return opened[-1]


@pytest.mark.parametrize("term", ["xterm-256color", "xterm", "linux", "screen", "tmux", "tmux-256color", "vt100"])
def test_every_terminal_gets_a_picture_and_q_quits(opened, tmp_path, term):
    """TERM matrix."""
    ended_run(tmp_path, "20261101-101010-aaaa", "demo", steps=20)
    terminal = start(opened, tmp_path, TERM=term, COLORTERM="")
    assert terminal.read(30, lambda: terminal.shows("demo")), terminal.text[-2000:]
    terminal.press("q")
    assert terminal.wait(20) == 0
    assert b"Traceback" not in terminal.text


def test_a_dumb_terminal_is_told_what_works_there(opened, tmp_path):
    terminal = start(opened, tmp_path, TERM="dumb")
    assert terminal.wait(20) == 2
    assert terminal.shows("dpo-tui runs")


def test_without_utf8_every_byte_is_ascii(opened, tmp_path):
    """LANG=C."""
    ended_run(tmp_path, "20261101-101010-aaaa", "demo")
    terminal = start(opened, tmp_path, "attach", "last", LANG="C")
    assert terminal.read(30, lambda: terminal.shows("reward margin") and terminal.shows("120/120"))
    terminal.read(1)
    assert NOISE.sub(b"", terminal.text).isascii(), set(NOISE.sub(b"", terminal.text).decode("utf-8", "replace"))


def test_no_color_means_none(opened, tmp_path):
    ended_run(tmp_path, "20261101-101010-aaaa", "demo")
    terminal = start(opened, tmp_path, "attach", "last", NO_COLOR="1")
    assert terminal.read(30, lambda: terminal.shows("reward margin"))
    terminal.read(1)
    codes = {code for found in re.findall(rb"\x1b\[([0-9;]*)m", terminal.text) for code in found.split(b";")}
    assert codes <= {b"", b"0", b"1", b"2", b"3", b"4", b"7", b"9", b"22", b"24", b"27", b"39", b"49"}, codes


def test_nothing_is_sent_while_nothing_happens(opened, tmp_path):
    """Idle 0 B/s."""
    ended_run(tmp_path, "20261101-101010-aaaa", "demo")
    terminal = start(opened, tmp_path, "attach", "last")
    assert terminal.read(30, lambda: terminal.shows("reward margin") and terminal.shows("120/120"))
    terminal.read(3)
    terminal.bytes = 0
    terminal.read(3)
    assert terminal.bytes == 0


def test_a_lost_terminal_ends_the_app_and_not_the_run(opened, tmp_path):
    """Hang-up. SIGHUP ignored, as under nohup, must not keep the app alive."""
    folder = tmp_path / "runs" / "20261101-101010-aaaa"
    writer = subprocess.Popen(
        [
            sys.executable,
            str(ROOT / "tests" / "support" / "fake_run.py"),
            str(folder),
            "--steps",
            "100000",
            "--seconds",
            "0.1",
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        deadline = time.monotonic() + 20
        while not (folder / "progress.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        terminal = start(opened, tmp_path, "attach", "last")
        assert terminal.read(30, lambda: terminal.shows("training"))
        terminal.hang_up()
        assert terminal.wait(20) is not None, "the app must end"
        before = (folder / "metrics.jsonl").stat().st_size
        deadline = time.monotonic() + 20
        while (folder / "metrics.jsonl").stat().st_size == before:
            assert time.monotonic() < deadline, "the run must go on"
            time.sleep(0.05)
    finally:
        signal.signal(signal.SIGHUP, ignored)
        writer.kill()
        writer.wait()


def test_quitting_says_which_runs_go_on(opened, tmp_path):
    folder = tmp_path / "runs" / "20261101-101010-aaaa"
    writer = subprocess.Popen(
        [
            sys.executable,
            str(ROOT / "tests" / "support" / "fake_run.py"),
            str(folder),
            "--steps",
            "100000",
            "--seconds",
            "0.2",
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        terminal = start(opened, tmp_path)
        assert terminal.read(30, lambda: terminal.shows("training"))
        terminal.press("q")
        assert terminal.wait(20) == 0
        assert terminal.shows("helpful-8b goes on without this window")
    finally:
        writer.kill()
        writer.wait()
