"""What 1,000 runs cost, 20 of them live: the app on its list, `runs --json`, and `attach` beside a bare Textual app.

    python benchmarks/many_runs.py [--runs 1000] [--live 20] [--seconds 30] [--repeat 5]

One process holds the locks of the live runs and writes a log event of each every two seconds. Prints Markdown; the
processor time of every figure is that of the measured process and its children.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dpo_tui.runs import run_lock
from dpo_tui.runs.atomic_files import append_json_line
from dpo_tui.runs.folder import RunFolder
from tests.support.app import ended_run
from tests.support.fake_run import begin, metrics_at, progress, write_history
from tests.support.terminal import MAIN, Terminal

BARE = """
from textual.app import App
from textual.widgets import Footer, Static
class Bare(App):
    BINDINGS = [("q", "quit", "leave it")]
    def compose(self):
        yield Static("bare")
        yield Footer()
Bare().run()
"""
STEPS = 10_000


def build(home: Path, runs: int, live: int) -> list[RunFolder]:
    """The home; returns the folders of the live runs, whose locks this process holds from now on."""
    for number in range(runs - live):
        ended_run(home, f"20261101-{number:06d}-aaaa", f"run-{number}", steps=60)
    folders: list[RunFolder] = []
    for number in range(live):
        folder = RunFolder(home / "runs" / f"20261102-{number:06d}-bbbb")
        begin(folder, f"live-{number}")
        write_history(folder, 1, 200, STEPS)
        progress(folder, 200, STEPS)
        run_lock.acquire(folder.lock)
        folders.append(folder)
    return folders


def keep_writing(folders: list[RunFolder], ended: threading.Event) -> None:
    """A log event of each live run every two seconds."""
    step = 200
    while not ended.wait(2.0):
        step += 1
        for folder in folders:
            append_json_line(folder.metrics, {"t": time.time(), "step": step, **metrics_at(step, STEPS)})
            progress(folder, step, STEPS)


def on_the_list(home: Path, seconds: float) -> tuple[float, float]:
    """Share of a core and bytes a second of an app that shows the list of runs."""
    terminal = Terminal([], home, (80, 24))
    terminal.read(60, lambda: terminal.shows("live-"))
    terminal.read(8)
    terminal.bytes, before, began = 0, terminal.cpu(), time.monotonic()
    terminal.read(seconds)
    spent = time.monotonic() - began
    result = (terminal.cpu() - before) / spent, terminal.bytes / spent
    terminal.close()
    return result


def processor_of(arguments: list[str], home: Path) -> float:
    """Seconds of the processor that a command takes."""
    before = os.times()
    environment = {**os.environ, "DPO_TUI_HOME": str(home)}
    subprocess.run([sys.executable, "-c", MAIN, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def until_shown(arguments: list[str], home: Path, words: str, program: tuple[str, ...] | None = None) -> float:
    """Seconds of the processor from the start of a process until it shows some words."""
    options = {} if program is None else {"program": program}
    terminal = Terminal(arguments, home, (80, 24), **options)
    if not terminal.read(60, lambda: terminal.shows(words)):
        raise SystemExit(f"never showed {words!r}")
    spent = terminal.cpu()
    terminal.close()
    return spent


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--live", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--repeat", type=int, default=5)
    asked = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        folders = build(home, asked.runs, asked.live)
        ended = threading.Event()
        threading.Thread(target=keep_writing, args=(folders, ended), daemon=True).start()
        print(f"load {' '.join(f'{one:.1f}' for one in os.getloadavg())}\n\n| what | measured | aim |\n|---|---:|---:|")
        share, wire = on_the_list(home, asked.seconds)
        print(f"| {asked.runs:,} runs, {asked.live} live: an app on its list | {share:.1%} of a core | ≤ 3 % |")
        print(f"| the same: on the wire | {wire / 1000:.2f} kB/s | |", flush=True)
        first = processor_of(["runs", "--json"], home)
        print(f"| `runs --json` with them for the first time: processor | {first:.2f} s | |", flush=True)
        listed = statistics.median(processor_of(["runs", "--json"], home) for _ in range(asked.repeat))
        print(f"| `runs --json` with them: processor | {listed:.2f} s | ≤ 1 s |", flush=True)
        pairs = [
            (
                until_shown(["attach", folders[0].id], home, "reward margin"),
                until_shown([], home, "leave it", (sys.executable, "-c", BARE)),
            )
            for _ in range(asked.repeat)
        ]
        ours, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"| `attach` until its first charts, by a bare app's first paint | {ours / bare:.2f} | ≤ 2 |")
        print(f"| the same in seconds of the processor | {ours:.2f} and {bare:.2f} s | |")
        ended.set()


if __name__ == "__main__":
    main()
