"""The worker's writer of its run folder: progress, metrics, events and samples.

It does not import torch, so that a run shows its first progress before torch is loaded.
"""

import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from dpo_tui.runs.atomic_files import write_json_atomic
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.line_log import LineLog, flush_with_patience
from dpo_tui.runs.ranks import Rank, RankReporter
from dpo_tui.runs.status_names import PHASES

# The shortest time between two writes of progress.json; a screen redraws no faster.
_PROGRESS_SECONDS = 0.5
# Lines of each file that wait in memory for room on the disk; a line of metrics has about 600 bytes.
_MOST_WAITING_LINES = 20_000
# Seconds between two waits for the disk: with the wait itself, a power cut loses the lines of 5 seconds at most.
_SYNC_SECONDS = 4.0


class Journal:
    """The only writer of a run's progress.json, metrics.jsonl, events.jsonl and samples.jsonl; thread-safe.

    Rank 0 writes them. Every other rank calls the same methods, which then write only its heartbeat (`RankReporter`).

    A disk that is full for a while does not end the training: lines wait in memory, and :meth:`flush_at_end` waits for
    room.

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
        self._written_at: float | None = None  # of the monotonic clock: the other one may be set back for hours
        self._metrics = LineLog(folder.metrics, _MOST_WAITING_LINES)
        self._events = LineLog(folder.events, _MOST_WAITING_LINES)
        self._samples = LineLog(folder.samples, _MOST_WAITING_LINES)
        self._cannot_write = False

    def sync_in_background(self) -> None:
        """Have the lines on the disk within seconds, by a thread: the training loop must not wait for the disk."""
        if self.rank.is_first:
            threading.Thread(target=self._sync_repeatedly, daemon=True, name="disk-sync").start()

    def event(self, kind: str, message: str, **details: Any) -> None:
        """Append one event; ``kind`` is one of phase, note, warning, checkpoint, stopped, failed.

        A rank other than 0 prints it instead, into its own log: what it says may be of its share of the rows alone.
        """
        if not self.rank.is_first:
            with suppress(OSError):
                sys.stdout.write(f"{kind}: {message}\n")
                sys.stdout.flush()
        self._append(self._events, {"kind": kind, "message": message, **details})

    def phase(self, name: str) -> None:
        """Enter a phase: write an event and reset the progress. Nothing happens if the run is in it already."""
        # Nothing is written before the first progress: the initial phase "starting" is entered, too.
        if self._progress["phase"] == name and self._written_at is not None:
            return
        self.event("phase", PHASES[name], phase=name)
        with self._progress_lock:
            self._progress |= {"phase": name, "done": 0, "total": None, "unit": ""}
            self._write_progress()

    @property
    def current_phase(self) -> str:
        """Name of the phase that the worker is in."""
        return str(self._progress["phase"])

    def progress(self, done: float, total: float | None, unit: str, **more: Any) -> None:
        """Record the progress of the phase; written at most twice a second, and always when ``done`` reaches ``total``.

        Progress bars call it from the threads of their libraries.

        Args:
            done: how many units are done.
            total: how many there are; None where that is unknown.
            unit: of both, such as rows, bytes or steps.
            **more: further keys of progress.json (step, max_steps, epoch, detail).
        """
        # The lock is held during the write, too: a slower thread would replace a newer state with an older one.
        with self._progress_lock:
            self._progress |= {"done": done, "total": total, "unit": unit, **more}
            if done == total or self._written_at is None or time.monotonic() - self._written_at >= _PROGRESS_SECONDS:
                self._write_progress()

    def metrics(self, step: int, epoch: float | None, values: Mapping[str, float]) -> None:
        """Append one line of metrics.

        Args:
            step: the optimizer steps done.
            epoch: the epochs done, as a fraction.
            values: by TRL's names.
        """
        self._append(self._metrics, {"step": step, "epoch": epoch, **values})

    def sample(self, record: Mapping[str, Any]) -> None:
        """Append one sampled answer."""
        self._append(self._samples, record)

    def flush(self) -> bool:
        """Write the lines that wait.

        Returns:
            Whether all are written; on a full disk the rest waits for the next call.

        Raises:
            OSError: the run's folder is gone.
        """
        try:
            # Events first: they are few, and one of them may be the only account of why the run failed.
            for log in (self._events, self._metrics, self._samples):
                log.flush()
                if lost := log.take_lost():
                    message = f"The disk was full: {lost:,} lines of {log.path.name} could not be kept"
                    self._events.add({"t": time.time(), "kind": "warning", "message": message})
            self._events.flush()
        except OSError as error:
            self._report_write_error(error)
            return False
        self._cannot_write = False
        return True

    def flush_at_end(self) -> None:
        """Write the lines that wait, and wait for room on a full disk; called when the work has ended, in any way."""
        if self.rank.is_first:
            flush_with_patience(self.flush, self.folder.path)
            self._sync()

    def _sync_repeatedly(self) -> None:
        while True:
            time.sleep(_SYNC_SECONDS)
            self._sync()

    def _sync(self) -> None:
        for log in (self._metrics, self._events, self._samples):
            log.sync()

    def _append(self, log: LineLog, fields: Mapping[str, Any]) -> None:
        if self.rank.is_first:
            log.add({"t": time.time(), **fields})
            self.flush()

    def _write_progress(self) -> None:
        self._written_at = time.monotonic()
        self.reporter.heartbeat(self.current_phase, self._progress.get("step"))
        if not self.rank.is_first:
            return
        try:
            write_json_atomic(self.folder.progress, {**self._progress, "t": time.time()}, durable=False)
        except OSError as error:
            self._report_write_error(error)  # the next progress replaces this one

    def _report_write_error(self, error: OSError) -> None:
        """Continue without the disk, and report that once.

        Raises:
            OSError: the run's folder is gone: the run was removed, and nobody can use the result.
        """
        if not self.folder.path.is_dir():
            raise error
        if not self._cannot_write:
            self._cannot_write = True
            # stderr is train.log, which may be on the same disk.
            with suppress(OSError):
                sys.stderr.write(f"cannot write in {self.folder.path}, the run continues and will try again: {error}\n")
                sys.stderr.flush()
