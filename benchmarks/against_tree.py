"""Processor time of commands and of the app's first paint, of this tree against another one, in turn.

    python benchmarks/against_tree.py OTHER [--repeats 9] [--runs 500] >results.md

OTHER is a checkout of another commit. Both run with this interpreter and its packages, and both are compiled first: a
tree without compiled files would be compiled at every start. Processor time, user and system, of the process and its
children, since a shared machine's clock says more about its neighbours. The other tree makes the runs, so that both
can read them. Prints Markdown.
"""

import argparse
import compileall
import fcntl
import os
import platform
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAIN = "from dpo_tui.cli import main; main()"
BARE = """
from textual.app import App
from textual.widgets import Footer, Static
class Bare(App[None]):
    BINDINGS = [("question_mark", "bell", "help")]
    def compose(self):
        yield Static("bare")
        yield Footer()
Bare().run()
"""
CONFIG = f'model_name = "{ROOT}/dpo_tui/demo/model"\ndataset = "{ROOT}/dpo_tui/demo/pairs.jsonl"\n'
PAINT_SECONDS = 60


def environment(tree: Path, home: Path) -> dict[str, str]:
    """A process of a tree, with its runs in a home."""
    own = {"PYTHONPATH": str(tree), "DPO_TUI_HOME": str(home), "TERM": "xterm-256color", "HF_HUB_OFFLINE": "1"}
    return {name: value for name, value in os.environ.items() if name != "COLUMNS"} | own


def command(tree: Path, home: Path, *arguments: str) -> float:
    """Processor time of a command, in seconds."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", MAIN, *arguments],
        env=environment(tree, home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments} of {tree} exits with {process.returncode}")
    return used.ru_utime + used.ru_stime


def first_paint(tree: Path, home: Path, code: str = MAIN) -> float:
    """Processor time of an app at 80×24 until its footer, which is drawn last, is written."""
    pid, terminal = pty.fork()
    if pid == 0:
        time.sleep(0.1)  # until the terminal has its size
        os.execve(sys.executable, [sys.executable, "-P", "-c", code], environment(tree, home))  # noqa: S606 - a list
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    written, began = b"", time.monotonic()
    while b"help" not in written:
        if time.monotonic() - began > PAINT_SECONDS or b"Traceback" in written:
            raise SystemExit(f"the app of {tree} draws no footer: {written[-2000:]!r}")
        if select.select([terminal], [], [], 0.05)[0]:
            written += os.read(terminal, 1 << 16)
    os.kill(pid, signal.SIGKILL)
    _, _, used = os.wait4(pid, 0)
    os.close(terminal)
    return used.ru_utime + used.ru_stime


def make_runs(tree: Path, home: Path, count: int) -> None:
    """Make runs of a thousand log lines each."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import runs_listing; "
    code += "runs_listing._build(int(sys.argv[2]), 1000, evaluate=True)"
    arguments = [sys.executable, "-c", code, str(tree / "benchmarks"), str(count)]
    subprocess.run(arguments, env=environment(tree, home), check=True)


def compare(name: str, before: Callable[[], float], now: Callable[[], float], repeats: int) -> None:
    """Print a row: medians, and their ratio. The first of each is thrown away."""
    taken = [(before(), now()) for _ in range(repeats + 1)][1:]
    old, new = (statistics.median(column) for column in zip(*taken, strict=True))
    print(f"| {name} | {1000 * old:.0f} ms | {1000 * new:.0f} ms | {new / old:.2f} |", flush=True)


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--runs", type=int, default=500)
    given = parser.parse_args()
    other = given.other.resolve()
    for tree in (other, ROOT):
        compileall.compile_dir(tree / "dpo_tui", quiet=1)
    packages = ", ".join(f"{package} {version(package)}" for package in ("textual", "pydantic", "click"))
    print(f"{os.cpu_count()} cores; Python {platform.python_version()}, {packages}.")
    print(f"Load average {os.getloadavg()[0]:.1f}. Medians of {given.repeats}, in turn.\n")
    print("| processor time | before | now | ratio |\n|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        config, empty, full = Path(folder, "config.toml"), Path(folder, "empty"), Path(folder, "full")
        config.write_text(CONFIG, encoding="utf-8")
        make_runs(other, full, given.runs)
        rows = {
            "`--version`": (empty, "--version"),
            f"`runs`, {given.runs} runs": (full, "runs"),
            f"`runs --json`, {given.runs} runs": (full, "runs", "--json"),
            "`status last`": (full, "status", "last"),
            "`config check`": (empty, "config", "check", str(config)),
            "`inspect` of the demo's pairs": (empty, "inspect", f"{ROOT}/dpo_tui/demo/pairs.jsonl"),
            "`estimate` of the demo's model and pairs": (empty, "estimate", str(config)),
        }
        for name, (home, *arguments) in rows.items():
            compare(
                name,
                lambda home=home, arguments=arguments: command(other, home, *arguments),
                lambda home=home, arguments=arguments: command(ROOT, home, *arguments),
                given.repeats,
            )
        for name, home in (("first paint, empty home", empty), (f"first paint, {given.runs} runs", full)):
            compare(
                name,
                lambda home=home: first_paint(other, home),
                lambda home=home: first_paint(ROOT, home),
                given.repeats,
            )
        print("\n| processor time | a bare Textual app | ours | ratio |\n|---|---:|---:|---:|")
        compare("first paint", lambda: first_paint(ROOT, empty, BARE), lambda: first_paint(ROOT, empty), given.repeats)


if __name__ == "__main__":
    main()
