"""Memory, descriptors and processor time of apps that stay open for an hour over 1,000 runs, 20 of them live.

    python benchmarks/load.py [--runs 1000] [--live 20] [--apps 10] [--minutes 60] [--speed 1] [--samples FILE]
    python benchmarks/load.py --table FILE

The live runs have real supervisors; their workers train nothing and log an event every two seconds. They have logged as
much before as curves hold: what an app grows by is not the data that it shows. Half of the apps
show the list, the others a run's charts. Two more are driven: one by a key each tenth of a second, which redraws the
list, one in and out of a run every six seconds. A sample of every process is written each minute, as a line of JSON,
and the table is made of those of the last five sixths: a straight line through them is what a process grows by.

A process's own memory is what it shares with no other (Private_* of smaps_rollup): resident pages of libraries come and
go with other processes.
"""

import argparse
import json
import mmap
import os
import random
import select
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dpo_tui.errors import RunError
from dpo_tui.runs import control_requests, run_lock, start_run, store
from dpo_tui.runs.atomic_files import append_json_line
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.state import read_state
from dpo_tui.views.series import CAPACITY
from tests.support.app import ended_run
from tests.support.fake_run import CONFIG, metrics_at, progress
from tests.support.terminal import ROOT, TICKS, Terminal

STEPS = 100_000
HISTORY = 2 * CAPACITY
LOG_SECONDS = 2.0
SAMPLE_SECONDS = 60.0
KEY_SECONDS = 0.1
VISIT_SECONDS = 6.0
COUNTED = """
import mmap, struct, sys
from textual.app import App
with open(sys.argv.pop(1), "r+b") as file:
    counter = mmap.mmap(file.fileno(), 8)
display = App._display
def counted(self, screen, renderable):
    counter[:] = struct.pack("Q", struct.unpack("Q", counter[:])[0] + 1)
    display(self, screen, renderable)
App._display = counted
speed = float(sys.argv.pop(1))
if speed != 1:
    from textual.message_pump import MessagePump
    set_interval = MessagePump.set_interval
    MessagePump.set_interval = lambda self, interval, *more, **named: set_interval(
        self, interval / speed, *more, **named
    )
from dpo_tui.cli import main
main()
"""
"""The app, with the number of its redraws in a file that this process can read, and its intervals so much shorter."""


def work(folder: RunFolder, speed: float) -> None:
    """A worker that logs an event every two seconds, or so much faster, until a signal ends it."""
    step = HISTORY
    while True:
        step += 1
        append_json_line(folder.metrics, {"t": time.time(), "step": step, **metrics_at(step, STEPS)})
        progress(folder, step, STEPS)
        time.sleep(LOG_SECONDS / speed)


def write_history(folder: RunFolder) -> None:
    """What a run has logged before: curves hold at most so much, and grow no further."""
    began = time.time() - LOG_SECONDS * HISTORY
    with folder.metrics.open("a", encoding="utf-8") as file:
        for step in range(1, HISTORY + 1):
            line = {"t": began + LOG_SECONDS * step, "step": step, **metrics_at(step, STEPS)}
            file.write(json.dumps(line) + "\n")


@contextmanager
def live_runs(number: int, speed: float) -> Iterator[list[RunFolder]]:
    """Runs with a supervisor and a worker each; they are ended with the block."""
    worker = [sys.executable, str(Path(__file__).resolve()), "--speed", str(speed), "--worker"]
    folders = [store.create(CONFIG, name=f"live-{one}", devices=[]) for one in range(number)]
    try:
        for folder in folders:
            write_history(folder)
            start_run.start(folder, [*worker, str(folder.path)])
        yield folders
    finally:
        for folder in folders:
            with suppress(RunError):
                control_requests.request_stop(folder, now=True)
        deadline = time.monotonic() + 60
        while any(run_lock.owner(folder.lock) for folder in folders) and time.monotonic() < deadline:
            time.sleep(0.5)


@dataclass(frozen=True)
class AppKind:
    """What an app shows, and what drives it.

    Args:
        name: how its row of the table is called.
        arguments: of ``dpo-tui``.
        keys: typed one after the other, again and again; none for an app that is only looked at.
        pause: seconds between two keys.
    """

    name: str
    arguments: Sequence[str] = ()
    keys: Sequence[str] = ()
    pause: float = 0.0


class OpenApp:
    """An app in a terminal, and its samples.

    Args:
        kind: what it shows.
        home: ``$DPO_TUI_HOME``.
        counter: a file for the number of its redraws.
        speed: how many times as often as usual it looks for news.
    """

    def __init__(self, kind: AppKind, home: Path, counter: Path, speed: float) -> None:
        counter.write_bytes(bytes(8))
        self.kind = kind
        with counter.open("r+b") as file:
            self._counter = mmap.mmap(file.fileno(), 8)
        program = (sys.executable, "-c", COUNTED)
        self.terminal = Terminal([str(counter), str(speed), *kind.arguments], home, (80, 24), program=program)
        self._next_key = time.monotonic() + 20.0
        self._typed = 0

    def type_if_due(self, now: float) -> None:
        """Press the next key, if it is time for it."""
        if self.kind.keys and now >= self._next_key:
            self.terminal.press(self.kind.keys[self._typed % len(self.kind.keys)])
            self._typed += 1
            self._next_key = now + self.kind.pause

    def sample(self) -> dict[str, Any]:
        """What the app has used so far."""
        redraws = struct.unpack("Q", self._counter[:])[0]
        return {"kind": self.kind.name, "redraws": redraws, "keys": self._typed, **process_sample(self.terminal.pid)}


def process_sample(pid: int) -> dict[str, Any]:
    """Memory in kB, processor time in seconds, descriptors and threads of a process."""
    proc = Path(f"/proc/{pid}")
    rollup: dict[str, int] = {}
    for line in (proc / "smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        rollup[name] = int(value.split()[0])
    fields = (proc / "stat").read_text().rpartition(")")[2].split()
    return {
        "pid": pid,
        "rss": rollup["Rss"],
        "private": rollup["Private_Dirty"] + rollup["Private_Clean"],
        "cpu": (int(fields[11]) + int(fields[12])) / TICKS,
        "descriptors": len(os.listdir(proc / "fd")),
        "threads": int(fields[17]),
    }


def opened_apps(folders: list[RunFolder], number: int, home: Path, counters: Path, *, speed: float) -> list[OpenApp]:
    """The apps that are looked at and the two that are driven, each started some seconds after the one before."""
    kinds = [AppKind("charts", ["attach", folders[one].id]) if one % 2 else AppKind("list") for one in range(number)]
    up_and_down = ["\x1b[B"] * 10 + ["\x1b[A"] * 10
    kinds.append(AppKind("list, a key each 0.1 s", keys=up_and_down, pause=KEY_SECONDS))
    kinds.append(AppKind("in and out of a run", keys=["\r", "\x1b"], pause=VISIT_SECONDS / 2))
    apps: list[OpenApp] = []
    for one, kind in enumerate(kinds):
        apps.append(OpenApp(kind, home, counters / f"redraws-{one}", speed))
        apps[-1].terminal.read(3)
    return apps


def supervisors(folders: list[RunFolder]) -> list[dict[str, Any]]:
    """A sample of each live run's supervisor."""
    found = []
    for folder in folders:
        state = read_state(folder)
        if state is not None and state.supervisor_pid:
            found.append({"kind": "supervisor", "redraws": 0, "keys": 0, **process_sample(state.supervisor_pid)})
    return found


def observe(apps: list[OpenApp], folders: list[RunFolder], seconds: float, samples: Path) -> None:
    """Read what the apps write, type, and write a sample of every process each minute."""
    began = time.monotonic()
    next_sample = began
    descriptors = [app.terminal.descriptor for app in apps]
    while (now := time.monotonic()) < began + seconds + 1:
        if now >= next_sample:
            next_sample += SAMPLE_SECONDS
            for one in [*(app.sample() for app in apps), *supervisors(folders)]:
                append_json_line(samples, {"seconds": round(now - began, 1), "load": os.getloadavg()[0], **one})
        for ready in select.select(descriptors, [], [], KEY_SECONDS / 2)[0]:
            os.read(ready, 1 << 16)
        for app in apps:
            app.type_if_due(time.monotonic())


def slope(points: Sequence[tuple[float, float]]) -> float:
    """What a straight line through the points rises by for each unit; 0 where all stand at one place."""
    if len({x for x, _ in points}) < 2:
        return 0.0
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope


def table(samples: Path) -> str:
    """The samples as Markdown, a row for each kind of process, of which the worst one counts."""
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    last = max(line["seconds"] for line in lines)
    lines = [line for line in lines if line["seconds"] >= last / 6]
    rows = [
        "| process | number | of a core, mean and worst | memory of its own at the end | it grows by, MB an hour"
        " | redraws | MB per 100,000 redraws | descriptors, first and last | threads |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for kind in dict.fromkeys(line["kind"] for line in lines):
        one_kind = [line for line in lines if line["kind"] == kind]
        by_pid = [
            [line for line in one_kind if line["pid"] == pid] for pid in dict.fromkeys(line["pid"] for line in one_kind)
        ]
        cpu = [(of[-1]["cpu"] - of[0]["cpu"]) / (of[-1]["seconds"] - of[0]["seconds"]) for of in by_pid]
        hourly = [slope([(one["seconds"] / 3600, one["private"] / 1000) for one in of]) for of in by_pid]
        redraws = [of[-1]["redraws"] - of[0]["redraws"] for of in by_pid]
        growth = [slope([(one["redraws"] / 100_000, one["private"] / 1000) for one in of]) for of in by_pid]
        rows.append(
            f"| {kind} | {len(by_pid)} | {statistics.mean(cpu):.2%}, {max(cpu):.2%}"
            f" | {max(of[-1]['private'] for of in by_pid) / 1000:.1f} MB"
            f" | {statistics.median(hourly):+.2f}, worst {max(hourly):+.2f}"
            f" | {min(redraws):,} to {max(redraws):,}"
            f" | {f'{statistics.median(growth):+.2f}, worst {max(growth):+.2f}' if max(redraws) else ''}"
            f" | {max(of[0]['descriptors'] for of in by_pid)}, {max(of[-1]['descriptors'] for of in by_pid)}"
            f" | {max(one['threads'] for one in one_kind)} |"
        )
    loads = [line["load"] for line in lines]
    return f"{last / 60:.0f} minutes, load average {min(loads):.1f} to {max(loads):.1f}\n\n" + "\n".join(rows)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--live", type=int, default=20)
    parser.add_argument("--apps", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--speed", type=float, default=1, help="how many times as often runs log and apps look")
    parser.add_argument("--samples", type=Path, help="write the samples there, and keep them")
    parser.add_argument("--table", type=Path, help="only make the table of these samples")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        random.seed()
        work(RunFolder(asked.worker), asked.speed)
    if asked.table:
        print(table(asked.table))
        return
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "home"
        # Supervisors and workers are started with -P: without this they would be those of an installed package.
        os.environ |= {"DPO_TUI_HOME": str(home), "PYTHONPATH": str(ROOT)}
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        samples = asked.samples or Path(name) / "samples.jsonl"
        for number in range(asked.runs - asked.live):
            ended_run(home, f"20261101-{number:06d}-aaaa", f"run-{number}", steps=60)
        with live_runs(asked.live, asked.speed) as folders:
            apps = opened_apps(folders, asked.apps, home, Path(name), speed=asked.speed)
            try:
                observe(apps, folders, asked.minutes * 60, samples)
            finally:
                for app in apps:
                    app.terminal.close()
        print(table(samples))


if __name__ == "__main__":
    main()
