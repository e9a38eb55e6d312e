"""The app over SSH on a slow line: from a key to its echo, and from a key to a whole screen.

    python benchmarks/ssh_line.py [--round-trip 0.3] [--kilobits 256] [--repeat 5]

A real sshd and ssh on this machine, with a proxy between them that delays and narrows (`tests/support/slow_line.py`).
Bytes are those of the connection, encryption included. Prints Markdown.
"""

import argparse
import shlex
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.app import ended_run
from tests.support.slow_line import SlowLine
from tests.support.ssh_server import SshServer
from tests.support.terminal import MAIN, Terminal

QUIET = 1.5
"""Seconds without a byte after which a screen counts as whole."""
KEYS = [
    ("down: the next row", "\x1b[B"),
    ("enter: a run", "\r"),
    ("escape: the list", "\x1b"),
    ("?: help over the list", "?"),
    ("escape: its end", "\x1b"),
    ("n: New", "n"),
    ("escape: the list from New", "\x1b"),
]


def press(terminal: Terminal, line: SlowLine, key: str) -> tuple[float, float, int]:
    """Seconds to the first byte and to the last one, and bytes, that a key causes."""
    before, began = line.down, time.monotonic()
    terminal.press(key)
    if not terminal.read(60, lambda: line.down > before):
        raise SystemExit(f"{key!r} shows nothing")
    first = line.last - began
    while time.monotonic() - line.last < QUIET:
        terminal.read(0.05)
    return first, line.last - began, line.down - before


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--round-trip", type=float, default=0.3)
    parser.add_argument("--kilobits", type=float, default=256)
    parser.add_argument("--repeat", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "home"
        for number in range(12):
            ended_run(home, f"20261101-{number:06}-aaaa", f"run-{number}", steps=60)
        found: dict[str, list[tuple[float, float, int]]] = {}
        with (
            SshServer(Path(name) / "ssh", home) as server,
            SlowLine(server.port, asked.round_trip, asked.kilobits * 1000) as line,
        ):
            for _ in range(asked.repeat):
                before, began = line.down, time.monotonic()
                terminal = server.login(shlex.join([sys.executable, "-c", MAIN]), port=line.port)
                terminal.read(60, lambda terminal=terminal: terminal.shows("enter"))
                shown = time.monotonic() - began
                while time.monotonic() - line.last < QUIET:
                    terminal.read(0.05)
                login = (shown, line.last - began, line.down - before)
                found.setdefault("login, and the app's first paint", []).append(login)
                for what, key in KEYS:
                    found.setdefault(what, []).append(press(terminal, line, key))
                terminal.close()
    print("| key | first byte | last byte | kB |\n|---|---:|---:|---:|")
    for what, measured in found.items():
        first, last, size = (statistics.median(column) for column in zip(*measured, strict=True))
        print(f"| {what} | {first:.2f} s | {last:.2f} s | {size / 1000:.1f} |")


if __name__ == "__main__":
    main()
