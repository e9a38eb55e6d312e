"""What the worker writes into its run folder while it works: progress, metrics, events, samples.

Imports nothing heavy, so that the first sign of life appears before torch is loaded.
"""

import time
from collections.abc import Mapping
from typing import Any

from dpo_tui.runs.files import append_json_line, write_json_atomic
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.phases import PHASES

# How often progress.json is replaced at most; a screen redraws no faster.
_PROGRESS_SECONDS = 0.5


class Journal:
    """The only writer of a run's progress.json, metrics.jsonl, events.jsonl and samples.jsonl."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._progress: dict[str, Any] = {"phase": "starting", "done": 0, "total": None, "unit": ""}
        self._written = 0.0

    def event(self, kind: str, message: str, **details: Any) -> None:
        """Append one event; ``kind`` is one of phase, note, warning, checkpoint, stopped, failed."""
        append_json_line(self.folder.events, {"t": time.time(), "kind": kind, "message": message, **details})

    def phase(self, name: str) -> None:
        """Enter a phase: an event, and progress that starts from nothing. Staying in one is no event."""
        if self._progress["phase"] == name and self._written:
            return
        self.event("phase", PHASES[name], phase=name)
        self._progress |= {"phase": name, "done": 0, "total": None, "unit": ""}
        self._write_progress()

    @property
    def current_phase(self) -> str:
        """The phase that the worker is in."""
        return str(self._progress["phase"])

    def progress(self, done: float, total: float | None, unit: str, **more: Any) -> None:
        """Say how far the phase is; written at most twice a second, and always at the end of a count.

        Args:
            done: how many units are done.
            total: how many there are; None where nobody knows.
            unit: of both, such as rows, bytes or steps.
            **more: further keys of progress.json (step, max_steps, epoch, detail).
        """
        self._progress |= {"done": done, "total": total, "unit": unit, **more}
        if done == total or time.time() - self._written >= _PROGRESS_SECONDS:
            self._write_progress()

    def metrics(self, step: int, epoch: float | None, values: Mapping[str, float]) -> None:
        """Append one line of metrics."""
        append_json_line(self.folder.metrics, {"t": time.time(), "step": step, "epoch": epoch, **values})

    def sample(self, record: Mapping[str, Any]) -> None:
        """Append one answer."""
        append_json_line(self.folder.samples, {"t": time.time(), **record})

    def _write_progress(self) -> None:
        self._written = time.time()
        write_json_atomic(self.folder.progress, {**self._progress, "t": self._written}, durable=False)
