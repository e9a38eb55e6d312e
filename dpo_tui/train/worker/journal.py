"""What the worker writes into its run folder while it works: progress, metrics, events, samples.

Imports nothing heavy, so that the first sign of life appears before torch is loaded.
"""

import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from dpo_tui.runs.atomic_files import write_json_atomic
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.full_disk import LineLog, flush_with_patience
from dpo_tui.runs.ranks import Rank, RankReporter
from dpo_tui.runs.statuses import PHASES

# How often progress.json is replaced at most; a screen redraws no faster.
_PROGRESS_SECONDS = 0.5
# Lines of a file that wait for room on the disk; a line of metrics has about 600 bytes.
_LINES_KEPT = 20_000


class Journal:
    """The only writer of a run's progress.json, metrics.jsonl, events.jsonl and samples.jsonl; safe for threads.

    Rank 0 writes them. Every other rank calls the same methods, which only give its sign of life (`RankReporter`).

    A disk that is full for a while does not end the training: lines wait in memory, and :meth:`settle` waits for room.

    Args:
        folder: the run.
        rank: this process.
    """

    def __init__(self, folder: RunFolder, rank: Rank | None = None) -> None:
        self.folder = folder
        self.rank = rank or Rank()
        self.reporter = RankReporter(folder, self.rank)
        self._progress: dict[str, Any] = {"phase": "starting", "done": 0, "total": None, "unit": ""}
        self._progress_lock = threading.Lock()
        self._written = 0.0
        self._metrics = LineLog(folder.metrics, _LINES_KEPT)
        self._events = LineLog(folder.events, _LINES_KEPT)
        self._samples = LineLog(folder.samples, _LINES_KEPT)
        self._refused = False

    def event(self, kind: str, message: str, **details: Any) -> None:
        """Append one event; ``kind`` is one of phase, note, warning, checkpoint, stopped, failed."""
        self._append(self._events, {"kind": kind, "message": message, **details})

    def phase(self, name: str) -> None:
        """Enter a phase: an event, and progress that starts from nothing. Staying in one is no event."""
        if self._progress["phase"] == name and self._written:
            return
        self.event("phase", PHASES[name], phase=name)
        with self._progress_lock:
            self._progress |= {"phase": name, "done": 0, "total": None, "unit": ""}
            self._write_progress()

    @property
    def current_phase(self) -> str:
        """The phase that the worker is in."""
        return str(self._progress["phase"])

    def progress(self, done: float, total: float | None, unit: str, **more: Any) -> None:
        """Say how far the phase is; written at most twice a second, and always at the end of a count.

        Progress bars call it from the threads of their libraries.

        Args:
            done: how many units are done.
            total: how many there are; None where nobody knows.
            unit: of both, such as rows, bytes or steps.
            **more: further keys of progress.json (step, max_steps, epoch, detail).
        """
        # Held while writing, too: a slower thread would put an older state over a newer one.
        with self._progress_lock:
            self._progress |= {"done": done, "total": total, "unit": unit, **more}
            if done == total or time.time() - self._written >= _PROGRESS_SECONDS:
                self._write_progress()

    def metrics(self, step: int, epoch: float | None, values: Mapping[str, float]) -> None:
        """Append one line of metrics."""
        self._append(self._metrics, {"step": step, "epoch": epoch, **values})

    def sample(self, record: Mapping[str, Any]) -> None:
        """Append one answer."""
        self._append(self._samples, record)

    def flush(self) -> bool:
        """Try to write the lines that a full disk has refused.

        Returns:
            Whether none is left.

        Raises:
            OSError: the run's folder is gone.
        """
        try:
            for log in (self._events, self._metrics, self._samples):
                log.flush()
                if lost := log.take_lost():
                    message = f"The disk was full: {lost:,} lines of {log.path.name} could not be kept"
                    self._events.add({"t": time.time(), "kind": "warning", "message": message})
            self._events.flush()
        except OSError as error:
            self._refuse(error)
            return False
        self._refused = False
        return True

    def settle(self) -> None:
        """Write what is left, and wait for room on a full disk; called once the work has ended, in whatever way."""
        if self.rank.is_first:
            flush_with_patience(self.flush, self.folder.path)

    def _append(self, log: LineLog, fields: Mapping[str, Any]) -> None:
        if self.rank.is_first:
            log.add({"t": time.time(), **fields})
            self.flush()

    def _write_progress(self) -> None:
        self._written = time.time()
        self.reporter.heartbeat(self.current_phase, self._progress.get("step"))
        if not self.rank.is_first:
            return
        try:
            write_json_atomic(self.folder.progress, {**self._progress, "t": self._written}, durable=False)
        except OSError as error:
            self._refuse(error)  # the next progress replaces this one

    def _refuse(self, error: OSError) -> None:
        """Go on without the disk, and say so once; without the folder the run was removed, and the work is in vain.

        Raises:
            OSError: the run's folder is gone.
        """
        if not self.folder.path.is_dir():
            raise error
        if not self._refused:
            self._refused = True
            # train.log may be on the same disk.
            with suppress(OSError):
                sys.stderr.write(f"cannot write in {self.folder.path}, goes on and will try again: {error}\n")
                sys.stderr.flush()
