"""The output folder of another trainer as a feed: TensorBoard event files, a tool's log of JSON lines, and states."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpo_tui.views.axes import grouped_number
from dpo_tui.views.run_feed import Columns, FeedChange, columns_of, finite_number, merge
from dpo_tui.views.series import Series
from dpo_tui.views.tensorboard_events import EventFileTail
from dpo_tui.views.trainer_log import TrainerLogTail, log_file
from dpo_tui.views.trainer_states import STATE, TrainerStates, state_files

QUIET = 300.0
"""Seconds without a write after which the run counts as finished."""
MUCH_LATER = 1800.0
"""Seconds after which files that are not written while others are count as those of an earlier run."""
LISTING_INTERVAL = 2.0
"""Seconds between two listings of the folder, which find new files."""
_EVENTS, _LOG, _STATES = "TensorBoard's event files", "the log", "the states"
_END = "train_runtime"
"""The metric that the Trainer logs when training has ended."""


def holds_foreign_run(folder: Path) -> bool:
    """Whether a folder has something that `ForeignFeed` reads."""
    return bool(state_files(folder)) or log_file(folder) is not None or bool(_event_files(folder))


class ForeignFeed:
    """The output folder of a Hugging Face `Trainer`, or of a tool that is built on it.

    TensorBoard's event files and logs of LLaMA-Factory and ms-swift grow during the run; ``trainer_state.json`` is
    written with each checkpoint only, but holds the whole history. Each metric is read from one of the three: from the
    first in this order that has it, where one that was written much later than the others goes before them.

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
        self._listed_at = 0.0
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Forget what was read, so that all files are read from their beginnings."""
        self._tails: dict[Path, EventFileTail] = {}
        self._log: TrainerLogTail | None = None
        self._states = TrainerStates(self.folder_path)
        self._order: tuple[str, ...] = ()
        self._owners: dict[str, str] = {}
        self._step: float | None = None
        self._ended_at: float | None = None
        self._of_state: dict[str, Any] = {}

    def has_news(self, now: float) -> bool:
        """Whether history is left to read, or the folder was not listed for `LISTING_INTERVAL` seconds."""
        return self.catching_up or abs(now - self._listed_at) >= LISTING_INTERVAL

    def read(self, now: float) -> FeedChange:
        """Read what is new, at most about 4 MB of each event file; read again while `catching_up`."""
        self._listed_at = now
        change = self._read_new(now)
        if change is None:
            self._begin_anew()
            change = self._read_new(now)
            change = replace(change or FeedChange(), replaced=True)
        return change

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

    def _read_new(self, now: float) -> FeedChange | None:
        """What is new; None when what was read before no longer holds, and everything is to be read again."""
        order = self._sources()
        if self._order and order != self._order:
            return None
        self._order = order
        events, catching_up = self._read_events()
        logged = self._read_log()
        if logged is None:
            return None
        state = self._states.poll() if not catching_up else None
        if state is not None and _STATES in self._owners.values():
            return None  # each state holds the whole history, which would come twice
        if state is not None:
            self._of_state = state
        history = (state or {}).get("log_history")
        found = {_EVENTS: events, _LOG: logged, _STATES: history if isinstance(history, list) else []}
        columns: dict[str, Any] = {}
        for source in order:
            for name, points in columns_of(line for line in found[source] if isinstance(line, dict)).items():
                if self._owners.setdefault(name, source) == source:
                    columns[name] = points
        self._note_steps(columns)
        about, notices = self._summary(now), list(self._notices(now))
        if notices:
            about["notice"] = notices[0]
        return FeedChange(
            columns=columns,
            about=about,
            events=self._as_events(notices),
            catching_up=catching_up,
            changed=bool(columns) or state is not None,
        )

    def _sources(self) -> tuple[str, ...]:
        """The sources in the order in which a metric is taken from them."""
        written = {
            _EVENTS: max(map(_mtime, _event_files(self.folder_path)), default=0.0),
            _LOG: _mtime(log) if (log := log_file(self.folder_path)) is not None else 0.0,
            _STATES: max(map(_mtime, state_files(self.folder_path)), default=0.0),
        }
        newest = max(written.values())
        first = next(source for source in written if newest - written[source] <= MUCH_LATER)
        return (first, *(source for source in written if source != first))

    def _read_events(self) -> tuple[list[dict[str, Any]], bool]:
        """New scalars of all event files as log lines, and whether one of them has more."""
        lines: list[dict[str, Any]] = []
        more = False
        for path in _event_files(self.folder_path):
            tail = self._tails.setdefault(path, EventFileTail(path))
            lines += map(_with_log_names, tail.poll())
            more = more or tail.more
        return lines, more

    def _read_log(self) -> list[dict[str, Any]] | None:
        """New lines of the log; None when it was replaced by another."""
        path = log_file(self.folder_path)
        if self._log is None or path != self._log.path:
            if self._log is not None:
                return None
            if path is None:
                return []
            self._log = TrainerLogTail(path)
        lines = self._log.poll()
        return lines if not self._log.restarts else None

    def _note_steps(self, columns: Columns) -> None:
        """Keep the newest step, and the one at which the Trainer logged the end of training."""
        newest = [steps[-1] for steps, _ in columns.values()]
        self._step = max(newest, default=self._step)
        if _END in columns:
            self._ended_at = columns[_END][0][-1]

    def _summary(self, now: float) -> dict[str, Any]:
        """What the header shows: status and its reason, steps, epoch, and the time left."""
        about: dict[str, Any] = {"id": self.folder_path.name, "name": self.folder_path.name}
        logged = {"max_steps": self._log.max_steps, "epoch": self._log.epoch} if self._log is not None else {}
        for document in (self._of_state, logged):
            about |= {key: document[key] for key in ("max_steps", "epoch") if finite_number(document.get(key))}
        about["step"] = self._step
        status, reason = self._status(now, finite_number(about.get("max_steps")))
        about |= {"status": status, **({"reason": reason} if reason else {})}
        if status == "running" and self._log is not None and self._log.eta_seconds is not None:
            about["eta_seconds"] = self._log.eta_seconds
        if not self._owners:
            about["waiting"] = f"There is no metric yet in {', '.join(self._readable()) or 'any whole file'}"
        return about

    def _status(self, now: float, max_steps: float | None) -> tuple[str, str]:
        """The status, and the reason of one that is not plain, with what may be done in a second line."""
        if self._step is not None and self._step == self._ended_at:
            return "done", ""
        written = max(map(_mtime, self._files()), default=now)
        quiet = now - written >= QUIET
        since = time.strftime("nothing was written since %Y-%m-%d %H:%M", time.localtime(written))
        if not self._owners and self._states.faults and not self._readable():
            name, fault = self._states.faults[0]
            return (
                "unknown",
                f"the file {name} {fault}\nNothing else is here to show. The next checkpoint writes another.",
            )
        if not self._owners and quiet:
            return "unknown", f"{since}, and there is no metric in {', '.join(self._readable()) or 'any whole file'}"
        if not quiet:
            return "running", ""
        if self._step is None or not max_steps or self._step >= max_steps:
            return "done", ""
        only_states = set(self._owners.values()) == {_STATES}
        hint = f"It may train still: {STATE} is written with each checkpoint only." if only_states else ""
        hint = hint or "It was stopped, or is busy with one step or an evaluation."
        return "stalled", f"{since}, at step {grouped_number(self._step)} of {grouped_number(max_steps)}\n{hint}"

    def _readable(self) -> list[str]:
        """Names of the files that are read, without states that are torn."""
        files = [path.name for path in self._tails]
        files += [self._log.path.name] if self._log is not None else []
        return files + ([self._states.name_of(self._states.shown)] if self._states.shown is not None else [])

    def _notices(self, now: float) -> Iterator[str]:
        """What is wrong with the files, and what is shown instead, the most important first."""
        for name, fault in self._states.faults:
            yield f"The file {name} {fault}. {self._shown_instead()}"
        if self._log is not None and self._log.skipped:
            count = self._log.skipped
            lines = "1 line is" if count == 1 else f"{count:,} lines are"
            yield f"{self._log.path.name}: {lines} torn or no JSON, and left out"
        for path, tail in self._tails.items():
            if tail.incomplete and now - _mtime(path) >= QUIET:
                yield f"{path.name} ends within a record ({tail.incomplete:,} bytes): what comes before it is shown"

    def _shown_instead(self) -> str:
        shown = []
        if self._states.shown is None and _STATES in self._owners.values():
            shown.append("what was read before")
        elif self._states.shown is not None:
            shown.append(self._states.name_of(self._states.shown))
        if self._log is not None and _LOG in self._owners.values():
            shown.append(self._log.path.name)
        if _EVENTS in self._owners.values():
            shown.append(_EVENTS)
        return f"Shown instead: {', '.join(shown)}." if shown else "Nothing else is here to show."

    def _as_events(self, notices: list[str]) -> list[dict[str, Any]] | None:
        """Notices as warnings among the events; None when they are the same as before."""
        if notices == [event["message"] for event in self.events]:
            return None
        known = {event["message"]: event for event in self.events}
        return [known.get(text) or {"t": self._listed_at, "kind": "warning", "message": text} for text in notices]

    def _files(self) -> list[Path]:
        """All files that are read."""
        log = log_file(self.folder_path)
        return [*_event_files(self.folder_path), *state_files(self.folder_path), *([log] if log is not None else [])]


def _with_log_names(line: dict[str, Any]) -> dict[str, Any]:
    """A log line with the names of the Trainer's log (``loss``, ``eval_loss``) for TensorBoard's (``train/loss``)."""
    return {
        name.removeprefix("train/") if name.startswith("train/") else name.replace("eval/", "eval_", 1): value
        for name, value in line.items()
    }


def _event_files(folder: Path) -> list[Path]:
    found = [*folder.glob("*tfevents*"), *folder.glob("*/*tfevents*"), *folder.glob("*/*/*tfevents*")]
    return sorted((path for path in found if path.is_file()), key=_mtime)


def _mtime(path: Path) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
