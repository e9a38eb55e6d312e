"""The output folder of another trainer as a feed: ``trainer_state.json`` and growing TensorBoard event files."""

import json
import os
import time
from pathlib import Path
from typing import Any

from dpo_tui.views.run_feed import FeedChange, columns_of, finite_number, merge
from dpo_tui.views.series import Series
from dpo_tui.views.tensorboard_events import EventFileTail

STATE = "trainer_state.json"
QUIET = 300.0
"""Seconds without a write after which the run counts as finished."""
LISTING_INTERVAL = 2.0
"""Seconds between two listings of the folder, which find new files."""


def holds_foreign_run(folder: Path) -> bool:
    """Whether a folder has something that `ForeignFeed` reads."""
    return _newest_state(folder) is not None or bool(_event_files(folder))


class ForeignFeed:
    """The output folder of a Hugging Face `Trainer`.

    Event files grow during the run; ``trainer_state.json`` is written with each checkpoint only. Where both exist,
    metrics come from the event files, and the number of steps from the state.

    Args:
        folder: the output folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder_path = folder
        self.title = folder.name
        self.series: dict[str, Series] = {}
        self.latest: dict[str, float] = {}
        self.about: dict[str, Any] = {"id": folder.name, "name": folder.name, "status": "running"}
        self.events: list[dict[str, Any]] = []
        self.log = next(
            (path for name in ("train.log", "output.log") if (path := folder / name).exists()), folder / "-"
        )
        self.catching_up = True
        self._tails: dict[Path, EventFileTail] = {}
        self._state_mtime = -1
        self._listed_at = 0.0

    def has_news(self, now: float) -> bool:
        """Whether history is left to read, or the folder was not listed for `LISTING_INTERVAL` seconds."""
        return self.catching_up or now - self._listed_at >= LISTING_INTERVAL

    def read(self, now: float) -> FeedChange:
        """Read what is new, at most about 4 MB of each event file; read again while `catching_up`."""
        self._listed_at = now
        lines, catching_up = self._read_events()
        state = self._read_state()
        columns = columns_of(lines)
        about = {**self.about, "status": "running" if now - self._last_write() < QUIET else "done"}
        replaced = False
        if state is not None:
            about |= {key: state[key] for key in ("max_steps", "epoch") if finite_number(state.get(key)) is not None}
            if not self._tails:  # every state holds the whole history
                history = state.get("log_history") or []
                columns, replaced = columns_of(line for line in history if isinstance(line, dict)), True
        return FeedChange(
            columns=columns,
            replaced=replaced,
            about=about,
            catching_up=catching_up,
            changed=bool(lines) or state is not None,
        )

    def take(self, change: FeedChange) -> bool:
        """Merge a change; the current step is that of the newest point."""
        changed = merge(self, change)
        step = max((series.last_step for series in self.series.values() if series.count), default=None)
        if step is not None and step != self.about.get("step"):
            self.about, changed = {**self.about, "step": step}, True
        return changed

    def poll(self, now: float) -> bool:
        """Read and merge in one thread."""
        return self.take(self.read(now))

    def _read_events(self) -> tuple[list[dict[str, Any]], bool]:
        """New scalars of all event files as log lines, and whether one of them has more."""
        lines: list[dict[str, Any]] = []
        more = False
        for path in _event_files(self.folder_path):
            tail = self._tails.setdefault(path, EventFileTail(path))
            lines += map(_with_log_names, tail.poll())
            more = more or tail.more
        return lines, more

    def _read_state(self) -> dict[str, Any] | None:
        """The newest trainer state, if it was written since the last call; None otherwise."""
        path = _newest_state(self.folder_path)
        if path is None:
            return None
        try:
            mtime = os.stat(path).st_mtime_ns
            if mtime == self._state_mtime:
                return None
            state = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(state, dict):
            return None
        self._state_mtime = mtime
        return state

    def _last_write(self) -> float:
        """Unix time of the last write to a file that is read."""
        paths = [*_event_files(self.folder_path), *filter(None, [_newest_state(self.folder_path)])]
        return max((_mtime(path) for path in paths), default=time.time())


def _with_log_names(line: dict[str, Any]) -> dict[str, Any]:
    """A log line with the names of the Trainer's log (``loss``, ``eval_loss``) for TensorBoard's (``train/loss``)."""
    return {
        name.removeprefix("train/") if name.startswith("train/") else name.replace("eval/", "eval_", 1): value
        for name, value in line.items()
    }


def _newest_state(folder: Path) -> Path | None:
    found = [path for path in (folder / STATE, *folder.glob(f"checkpoint-*/{STATE}")) if path.is_file()]
    return max(found, key=_mtime, default=None)


def _event_files(folder: Path) -> list[Path]:
    found = [*folder.glob("*tfevents*"), *folder.glob("*/*tfevents*"), *folder.glob("*/*/*tfevents*")]
    return sorted((path for path in found if path.is_file()), key=_mtime)


def _mtime(path: Path) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
