"""Another trainer's output folder as a feed: ``trainer_state.json``, and TensorBoard event files as they grow."""

import json
import os
import time
from pathlib import Path
from typing import Any

from dpo_tui.views.run_feed import FeedChange, columns_of, merge, number
from dpo_tui.views.series import Series
from dpo_tui.views.tensorboard_events import EventFileTail

STATE = "trainer_state.json"
QUIET = 300.0
"""Seconds without a write after which a folder is taken for a finished run."""
LOOK = 2.0


def holds_foreign_run(folder: Path) -> bool:
    """Whether a folder has something that `ForeignFeed` reads."""
    return _newest_state(folder) is not None or bool(_event_files(folder))


class ForeignFeed:
    """A Hugging Face Trainer's output folder.

    Event files are written as the run goes; ``trainer_state.json`` only with a checkpoint. When both are there, the
    event files are read, and the state fills in the number of steps.

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
        self._state_mark = -1
        self._looked = 0.0

    def has_news(self, now: float) -> bool:
        """Whether it is time to look: finding new files costs a listing, so only every other second."""
        return self.catching_up or now - self._looked >= LOOK

    def read(self, now: float) -> FeedChange:
        """Read what is new; about four megabytes of each event file at most, so read again while `catching_up`."""
        self._looked = now
        lines, catching_up = self._read_events()
        state = self._read_state()
        columns = columns_of(lines)
        about = {**self.about, "status": "running" if now - self._written() < QUIET else "done"}
        replaced = False
        if state is not None:
            about |= {key: state[key] for key in ("max_steps", "epoch") if number(state.get(key)) is not None}
            if not self._tails:  # a state holds its whole history every time
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
        """Merge what was read; the step is that of the newest point."""
        changed = merge(self, change)
        step = max((series.last_step for series in self.series.values() if series.count), default=None)
        if step is not None and step != self.about.get("step"):
            self.about, changed = {**self.about, "step": step}, True
        return changed

    def poll(self, now: float) -> bool:
        """Read and take at once, where one thread does both."""
        return self.take(self.read(now))

    def _read_events(self) -> tuple[list[dict[str, Any]], bool]:
        """New lines of all event files, and whether one of them has more."""
        lines: list[dict[str, Any]] = []
        more = False
        for path in _event_files(self.folder_path):
            tail = self._tails.setdefault(path, EventFileTail(path))
            lines += map(_renamed, tail.poll())
            more = more or tail.more
        return lines, more

    def _read_state(self) -> dict[str, Any] | None:
        """The newest trainer state, if it was written since the last look."""
        path = _newest_state(self.folder_path)
        if path is None:
            return None
        try:
            mark = os.stat(path).st_mtime_ns
            if mark == self._state_mark:
                return None
            state = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(state, dict):
            return None
        self._state_mark = mark
        return state

    def _written(self) -> float:
        paths = [*_event_files(self.folder_path), *filter(None, [_newest_state(self.folder_path)])]
        return max((_modified(path) for path in paths), default=time.time())


def _renamed(line: dict[str, Any]) -> dict[str, Any]:
    """TensorBoard names as the Trainer writes them (``train/loss``, ``eval/loss``) as log names."""
    return {
        name.removeprefix("train/") if name.startswith("train/") else name.replace("eval/", "eval_", 1): value
        for name, value in line.items()
    }


def _newest_state(folder: Path) -> Path | None:
    found = [path for path in (folder / STATE, *folder.glob(f"checkpoint-*/{STATE}")) if path.is_file()]
    return max(found, key=_modified, default=None)


def _event_files(folder: Path) -> list[Path]:
    found = [*folder.glob("*tfevents*"), *folder.glob("*/*tfevents*"), *folder.glob("*/*/*tfevents*")]
    return sorted((path for path in found if path.is_file()), key=_modified)


def _modified(path: Path) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
