"""What the app costs in a real terminal: first paint, CPU, bytes on the wire, memory, and how late a metric shows.

    python benchmarks/app.py [--seconds 20] [--points 100000] [--posting PATH] >results.md

The app runs under a pty whose other end counts bytes, as an SSH connection would carry them. Another process writes
a run folder as a worker does, one log event every two seconds. Python's compiled files are there, as where a package
manager installed them: a first start compiles them. `--posting` is the command of posting, a well-known
Textual app, in an environment of its own: it and ours then start in turn. Prints Markdown.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.app import ended_run
from tests.support.terminal import MAIN, ROOT, Terminal

OURS = (sys.executable, "-c", MAIN)
QUIET = 6
"""Quarters of a second with less than 0.05 s of processor time, after which nothing more is being read."""


def run_folder(home: Path, points: int, seconds: float) -> tuple[Path, subprocess.Popen[bytes]]:
    """A live run with a history, and its writer."""
    folder = home / "runs" / "20261101-101010-aaaa"
    command = [sys.executable, str(ROOT / "tests" / "support" / "fake_run.py"), str(folder), "--history", str(points)]
    command += ["--steps", str(2 * points), "--seconds", str(seconds)]
    writer = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    while not (folder / "progress.json").exists():
        time.sleep(0.1)
    return folder, writer


def first_paint(home: Path, program: tuple[str, ...], words: str) -> float:
    """Seconds from the start of a process until its whole first screen, of which the footer is the last, is written."""
    terminal = Terminal([], home, (80, 24), {"HOME": str(home)}, program)
    if not terminal.read(20, lambda: terminal.shows(words)):
        raise SystemExit(f"{program[0]} never showed {words!r}")
    seconds = time.monotonic() - terminal.started
    terminal.close()
    return seconds


def first_paints(posting: str | None, repeats: int = 9) -> Iterator[tuple[str, float]]:
    """Median first paint of ours, and of posting."""
    programs = {"dpo-tui": (OURS, "help")} | ({"posting": ((posting,), "Quit")} if posting else {})
    taken: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, (program, words) in programs.items():
            with tempfile.TemporaryDirectory() as home:
                taken[name].append(first_paint(Path(home), program, words))
    for name, seconds in taken.items():
        yield name, statistics.median(seconds)


def opening(home: Path, size: tuple[int, int]) -> tuple[float, float]:
    """Seconds from the start of a process until the first charts of its run, and until the whole history is there."""
    terminal = Terminal(["attach", "last"], home, size)
    terminal.read(60, lambda: terminal.shows("reward margin") and terminal.text.count("⣀".encode()) > 4)
    charts = time.monotonic() - terminal.started
    quiet, spent = 0, terminal.cpu()
    while quiet < QUIET and time.monotonic() - terminal.started < 180:
        terminal.read(0.25)
        quiet = quiet + 1 if terminal.cpu() - spent < 0.05 else 0
        spent = terminal.cpu()
    whole = time.monotonic() - terminal.started - 0.25 * QUIET
    terminal.close()
    return charts, whole


def opening_from_the_list(home: Path, size: tuple[int, int]) -> float:
    """Seconds from Enter in the list of runs until the first charts of the run under the cursor."""
    terminal = Terminal([], home, size)
    terminal.read(60, lambda: terminal.shows("open") and terminal.text.count("⣀".encode()) > 4)
    terminal.read(5)
    terminal.text = b""
    pressed = time.monotonic()
    terminal.press("\r")
    terminal.read(60, lambda: terminal.shows("reward margin") and terminal.text.count("⣀".encode()) > 4)
    seconds = time.monotonic() - pressed
    terminal.close()
    return seconds


def watching(home: Path, size: tuple[int, int], seconds: float) -> dict[str, float]:
    """Watching a run whose history is read."""
    terminal = Terminal(["attach", "last"], home, size)
    terminal.read(15)
    terminal.bytes, before, began = 0, terminal.cpu(), time.monotonic()
    terminal.read(seconds)
    spent = time.monotonic() - began
    result = {
        "cpu": (terminal.cpu() - before) / spent,
        "bytes": terminal.bytes / spent,
        "memory": terminal.memory(),
    }
    terminal.close()
    return result


def switching(home: Path, size: tuple[int, int]) -> Iterator[tuple[str, int]]:
    """Bytes on the wire from a key until nothing more comes, for keys that change the screen."""
    terminal = Terminal([], home, size)
    terminal.read(60, lambda: terminal.shows("open") and terminal.shows("run-11"))
    keys = (
        ("what is left of the first paint", ""),
        ("entering a run", "\r"),
        ("leaving it", "\x1b"),
        ("the guide", "5"),
        ("back from it", "1"),
    )
    for what, key in (*keys, ("help over the list", "?"), ("its end", "\x1b"), ("one row down", "j")):
        terminal.bytes = 0
        if key:
            terminal.press(key)
        seen, quiet = -1, 0
        while quiet < QUIET or not terminal.bytes:
            terminal.read(0.25)
            quiet, seen = (quiet + 1, seen) if terminal.bytes == seen else (0, terminal.bytes)
        if key:
            yield what, terminal.bytes
    terminal.close()


def switches() -> Iterator[tuple[str, str, str]]:
    """The bytes of changes of the screen among 12 runs that have ended, at two sizes."""
    with tempfile.TemporaryDirectory() as name:
        for number in range(12):
            ended_run(Path(name), f"20261101-1010{number:02d}-aaaa", f"run-{number}")
        for size, aim in (((80, 24), "≤ 10 kB"), ((200, 50), "")):
            for what, count in switching(Path(name), size):
                yield f"{what}, {size[0]}×{size[1]}: on the wire", f"{count / 1000:.1f} kB", aim


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


def report(seconds: float, points: int, posting: str | None) -> Iterator[tuple[str, str, str]]:
    """Measure; yield what, how much, and the aim."""
    paints = dict(first_paints(posting))
    yield from switches()
    yield "first full paint, empty home", f"{paints['dpo-tui']:.2f} s", "≤ 0.5 s"
    if "posting" in paints:
        ratio = paints["dpo-tui"] / paints["posting"]
        yield "the same of posting, in turn", f"{paints['posting']:.2f} s; ours is {ratio:.2f} of it", "≤ 0.5 of it"
    for steps, aim in ((points, "≤ 0.5 s"), (10 * points, "≤ 1 s")):
        with tempfile.TemporaryDirectory() as name:
            _, writer = run_folder(Path(name), steps, 2.0)
            opened = [opening(Path(name), (80, 24)) for _ in range(5)]
            entered = statistics.median(opening_from_the_list(Path(name), (80, 24)) for _ in range(5))
            writer.kill()
            writer.wait()
        charts, whole = (statistics.median(column) for column in zip(*opened, strict=True))
        yield f"Enter on a run of {steps:,} steps: first charts", f"{entered:.2f} s", aim
        yield "`attach` to it: first charts, process start included", f"{charts:.2f} s", aim
        yield f"the same: all of its history, {20 * steps:,} values", f"{whole:.1f} s", ""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        folder, writer = run_folder(home, points, 2.0)
        try:
            for size, cpu, wire in (((80, 24), 2, 1), ((200, 50), 4, 2)):
                found = watching(home, size, seconds)
                where = f"live run of {points:,} steps, {size[0]}×{size[1]}"
                yield f"{where}: processor", f"{found['cpu']:.1%} of a core", f"≤ {cpu} %"
                yield f"{where}: on the wire", f"{found['bytes'] / 1000:.2f} kB/s", f"≤ {wire} kB/s"
                yield f"{where}: memory", f"{found['memory']:.0f} MB", "≤ 100 MB"
            # Alive and silent: what it wrote would take the place of what is looked for.
            writer.send_signal(signal.SIGSTOP)
            yield "from written to on the wire, the worst of five", f"{lateness(home, folder):.2f} s", "≤ 0.5 s"
        finally:
            writer.kill()
            writer.wait()
        state = json.loads((folder / "state.json").read_text())
        (folder / "state.json").write_text(json.dumps({**state, "status": "done"}))
        found = watching(home, (80, 24), seconds)
        yield "finished run, idle: processor", f"{found['cpu']:.2%} of a core", "≤ 0.3 %"
        yield "finished run, idle: on the wire", f"{found['bytes']:.1f} B/s", "0 B/s"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--posting")
    parser.add_argument("--only-switches", action="store_true", help="measure only the bytes of changes of the screen")
    asked = parser.parse_args()
    # The app then runs as it does for people: with compiled files, which the first of these starts makes.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as home:
        first_paint(Path(home), OURS, "help")
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"Python {platform.python_version()}, textual {version('textual')}, {os.cpu_count()} cores, load {load}\n")
    print("| what | measured | aim |\n|---|---:|---:|")
    rows = switches() if asked.only_switches else report(asked.seconds, asked.points, asked.posting)
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
