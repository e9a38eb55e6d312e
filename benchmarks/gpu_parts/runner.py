"""Run the parts of the GPU benchmark: each in a process group of its own, with a deadline."""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.gpu_parts.session import Part, Session, append, in_words
from dpo_tui.errors import DpoTuiError
from dpo_tui.runs import control_requests, store
from dpo_tui.runs.status import status_of

LONGEST = 240.0
"""Seconds that a part may take at most, however much time the others leave."""
_CLOSING = 1.5
"""Seconds between the end of a part's own budget and the moment at which its processes are killed."""
_REPORTED = 3
"""Exit code of a child that has written its failure itself."""


@dataclass(frozen=True)
class Places:
    """Where a benchmark writes.

    Attributes:
        results: JSON lines file of all rows.
        log: output of the parts and their tracebacks.
        scratch: models, data and runs.
    """

    results: Path
    log: Path
    scratch: Path

    @property
    def home(self) -> Path:
        """The DPO_TUI_HOME of every run that is started here."""
        return self.scratch / "home"


def run_parts(parts: Sequence[Part], places: Places, seconds: float, *, dry: bool) -> bool:
    """Run parts one after the other; each gets its share of the time that is left.

    Args:
        parts: in the order in which they run.
        places: where to write.
        seconds: for all parts together.
        dry: tiny sizes on the CPU.

    Returns:
        Whether every part ran to its end.
    """
    os.environ["DPO_TUI_HOME"] = str(places.home)
    end = time.monotonic() + seconds
    whole = True
    for number, part in enumerate(parts):
        left = end - time.monotonic()
        share = part.seconds / sum(one.seconds for one in parts[number:])
        longest = left if dry else LONGEST
        whole &= run_part(part, places, max(0.0, min(longest, left * share)), dry=dry)
    return whole


def run_part(part: Part, places: Places, seconds: float, *, dry: bool) -> bool:
    """Run one part in a process group of its own, and write how it ended.

    The group is killed at the deadline with everything in it, so that a kernel that hangs or a sticky CUDA error ends
    with its part. Supervised runs leave the group by design; they are stopped by their run folders.

    Returns:
        Whether the part ran to its end.
    """
    sys.stderr.write(f"{part.letter} {part.title}: at most {seconds:.0f} s\n")
    # Not forked: a process that was forked from one with threads or a CUDA context cannot use the GPU.
    process = multiprocessing.get_context("spawn").Process(
        target=_in_child, args=(part, places, time.monotonic() + seconds, dry), name=f"part {part.name}"
    )
    began = time.monotonic()
    process.start()
    process.join(seconds + _CLOSING)
    taken = round(time.monotonic() - began, 1)
    if process.is_alive():
        outcome, reason = "cut off", f"not finished after {seconds:.0f} s"
    elif process.exitcode:
        outcome, reason = "failed", f"its process ended with {process.exitcode}"
    else:
        outcome, reason = "done", ""
    _kill_group(process)
    _stop_runs(places.home)
    if outcome != "failed" or process.exitcode != _REPORTED:
        append(places.results, {"part": part.letter, "outcome": outcome, "reason": reason, "seconds": taken})
    return outcome == "done"


def _in_child(part: Part, places: Places, end: float, dry: bool) -> None:
    os.setpgid(0, 0)
    with places.log.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    began = time.monotonic()  # the same clock in all processes
    try:
        part.measure(Session(part.letter, places.results, places.scratch, end - began, dry=dry))
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        taken = round(time.monotonic() - began, 1)
        line = {"part": part.letter, "outcome": "failed", "reason": in_words(error), "seconds": taken}
        append(places.results, line)
        # Past the interpreter's shutdown, which may hang on a broken CUDA context.
        os._exit(_REPORTED)


def _kill_group(process: BaseProcess) -> None:
    if process.is_alive() and process.pid is not None and os.getpgid(process.pid) != process.pid:
        process.kill()  # before it had a group
    elif process.pid is not None:
        # Also after its own end: a row's process may be left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.join()


def _stop_runs(home: Path) -> None:
    for folder in store.runs_in(home / "runs"):
        with contextlib.suppress(DpoTuiError):
            if not status_of(folder).over:
                control_requests.request_stop(folder, now=True)
