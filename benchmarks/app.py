"""What the app costs in a real terminal: first paint, CPU, bytes on the wire, memory, and how late a metric shows.

    python benchmarks/app.py [--seconds 20] [--points 100000]

The app runs under a pty whose other end counts bytes, as an SSH connection would carry them. Another process writes
a run folder as a worker does, one log event every two seconds. Figures depend on the machine: note it beside them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.terminal import ROOT, Terminal


def run_folder(home: Path, points: int, seconds: float) -> tuple[Path, subprocess.Popen[bytes]]:
    """A live run with a history, and its writer."""
    folder = home / "runs" / "20261101-101010-aaaa"
    command = [sys.executable, str(ROOT / "tests" / "fake_run.py"), str(folder), "--history", str(points)]
    command += ["--steps", str(2 * points), "--seconds", str(seconds)]
    writer = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    while not (folder / "progress.json").exists():
        time.sleep(0.1)
    return folder, writer


def first_paint(home: Path) -> float:
    """Seconds from the start of the process until its whole first screen is written."""
    terminal = Terminal([], home, (80, 24))
    terminal.read(20, lambda: terminal.shows("help"))
    seconds = time.monotonic() - terminal.started
    terminal.close()
    return seconds


def watching(home: Path, size: tuple[int, int], seconds: float) -> dict[str, float]:
    """Opening and then watching a live run."""
    terminal = Terminal(["attach", "last"], home, size)
    terminal.read(30, lambda: terminal.shows("margin") and terminal.text.count("⣀".encode()) > 4)
    opened = time.monotonic() - terminal.started
    terminal.read(60, lambda: False) if seconds > 60 else terminal.read(12)
    terminal.bytes, before, began = 0, terminal.cpu(), time.monotonic()
    terminal.read(seconds)
    spent = time.monotonic() - began
    result = {
        "opened": opened,
        "cpu": (terminal.cpu() - before) / spent,
        "bytes": terminal.bytes / spent,
        "memory": terminal.memory(),
    }
    terminal.close()
    return result


def lateness(home: Path, folder: Path) -> float:
    """Seconds until a value that was just written is on the wire, the worst of five."""
    terminal = Terminal(["attach", "last"], home, (80, 24))
    terminal.read(15)
    worst = 0.0
    for index in range(5):
        mark = f"0.{571 + index}"
        line = {"t": time.time(), "step": 10_000_000 + index, "loss": float(mark)}
        with (folder / "metrics.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        written = time.monotonic()
        terminal.text = b""
        terminal.read(10, lambda mark=mark: terminal.shows(mark[-2:]))
        worst = max(worst, time.monotonic() - written)
        terminal.read(1.3)
    terminal.close()
    return worst


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--points", type=int, default=100_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        paints = sorted(first_paint(home) for _ in range(5))
        print(f"first full paint, empty home, median of 5: {paints[2]:.2f} s")
        folder, writer = run_folder(home, asked.points, 2.0)
        try:
            for size in ((80, 24), (200, 50)):
                found = watching(home, size, asked.seconds)
                print(
                    f"live run, {asked.points:,} steps, {size[0]}×{size[1]}: charts after {found['opened']:.2f} s, "
                    f"CPU {found['cpu']:.1%} of a core, {found['bytes'] / 1000:.2f} kB/s, {found['memory']:.0f} MB"
                )
        finally:
            writer.kill()
            writer.wait()
        state = json.loads((folder / "state.json").read_text())
        (folder / "state.json").write_text(json.dumps({**state, "status": "done"}))
        found = watching(home, (80, 24), asked.seconds)
        print(f"finished run, idle: CPU {found['cpu']:.2%} of a core, {found['bytes']:.1f} B/s")
        print(f"a metric is on the wire after at most {lateness(home, folder):.2f} s (5 tries)")


if __name__ == "__main__":
    main()
