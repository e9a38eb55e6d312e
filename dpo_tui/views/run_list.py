"""The list of all runs with a summary of each; only runs whose files changed are read again."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpo_tui import paths
from dpo_tui.errors import RunError
from dpo_tui.runs.atomic_files import lines_from_end, parse_line
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.frozen_config import read_setting
from dpo_tui.runs.metrics_reader import latest
from dpo_tui.runs.status_names import LIVE, OVER, UNKNOWN
from dpo_tui.runs.store import run_ids_in
from dpo_tui.runs.summary import summary
from dpo_tui.views.run_feed import finite_number

TAIL = 1 << 15
"""Bytes read from the end of ``metrics.jsonl`` for the sparkline."""
SPARK_POINTS = 32
SETTLED = 10.0
"""Seconds after its last change of state from which a run that is over writes nothing more by itself."""
PAUSE_PER_LIVE_RUN = 0.2
"""Seconds by which each live run puts off reading the progress of another one again: with 20 of them each is read every
four seconds. A change of state is read at once."""
_STATE_FILE = 2
"""Numbers of `_file_states` that are those of state.json."""
RECHECK = 3.0
"""Seconds after which a live run is read again without a changed file: it may have stalled or died."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run as the home screen shows it.

    Attributes:
        folder: its folder.
        about: its state and progress, from `dpo_tui.runs.summary.summary`.
        model: the last part of the model's name or path.
        dataset: the dataset of its config, as text.
        held_out: its newest accuracy on held-out pairs, 0 to 1; None where there is none.
        spark: recent values of the accuracy, or of the margin where there is no accuracy, oldest first.
        spark_label: ``acc`` or ``margin``.
    """

    folder: RunFolder
    about: dict[str, Any]
    model: str = ""
    dataset: str = ""
    held_out: float | None = None
    spark: tuple[float, ...] = ()
    spark_label: str = ""

    @property
    def id(self) -> str:
        """The run's id."""
        return self.folder.id

    @property
    def name(self) -> str:
        """The user's name for it, else its id."""
        return str(self.about.get("name") or self.folder.id)

    @property
    def status(self) -> str:
        """Its status when it was last read."""
        return str(self.about.get("status", UNKNOWN))

    @property
    def fraction(self) -> float | None:
        """Share of its steps that are done, 0 to 1; None while their number is not known."""
        step, last = finite_number(self.about.get("step")), finite_number(self.about.get("max_steps"))
        return step / last if step is not None and last else None


class RunList:
    """The runs of the home folder.

    Attributes:
        summaries: newest first.
        loaded: whether the home folder has been read once. Until then nobody knows whether there are runs.
    """

    def __init__(self) -> None:
        self.summaries: list[RunSummary] = []
        self.loaded = False
        self._cache: dict[str, _Cached] = {}

    def poll(self, now: float) -> bool:
        """Read the runs that may have changed.

        Args:
            now: Unix time in seconds.

        Returns:
            Whether `summaries` differs from before; true for the first poll.

        Raises:
            HomeError: the home folder cannot be read.
        """
        cache: dict[str, _Cached] = {}
        pause = PAUSE_PER_LIVE_RUN * sum(old.summary.status in LIVE for old in self._cache.values())
        home = paths.runs()
        for run_id in run_ids_in(home):
            old = self._cache.get(run_id)
            folder = old.summary.folder if old is not None else RunFolder(home / run_id)
            itself = _state_of(folder.path)
            if old is not None and old.itself == itself and old.is_settled(now):
                cache[run_id] = old
                continue
            files = _file_states(folder)
            unchanged = old is not None and old.files == files
            age = abs(now - old.read_at) if old is not None else 0.0  # the clock may have been set back for hours
            if old is not None and not unchanged and age < pause and old.has_same_state(files):
                cache[run_id] = old
                continue
            if old is not None and unchanged and (old.summary.status not in LIVE or age < RECHECK):
                cache[run_id] = old if old.itself == itself else replace(old, itself=itself)
            else:
                cache[run_id] = _Cached(itself, files, now, _read_summary(folder, now))
        self._cache = cache
        summaries = [cached.summary for cached in cache.values()]
        changed = summaries != self.summaries or not self.loaded
        self.summaries = summaries
        self.loaded = True
        return changed


@dataclass(frozen=True, slots=True)
class _Cached:
    """A summary, and the states of the run's folder and of its files when it was read."""

    itself: tuple[int, ...]
    files: tuple[int, ...]
    read_at: float
    summary: RunSummary

    def has_same_state(self, files: tuple[int, ...]) -> bool:
        """Whether what has changed of a run is only how far it is."""
        return self.summary.status in LIVE and self.files[:_STATE_FILE] == files[:_STATE_FILE]

    def is_settled(self, now: float) -> bool:
        """Whether nothing of the run changes without its folder changing, too.

        Of a run that is over, that holds once its supervisor has ended: only whole files are replaced then, by a resume
        or another name. Of 1,000 runs most are, and a look at one place instead of six is a fifth of the poll.
        """
        return self.summary.status in OVER and now - self.files[0] / 1e9 > SETTLED


def _read_summary(folder: RunFolder, now: float) -> RunSummary:
    try:
        about = summary(folder, now=now, brief=True)
    except RunError as error:
        about = {"id": folder.id, "name": "", "status": UNKNOWN, "reason": error.message}
    label, spark = _spark(folder.metrics)
    # The newest evaluation may lie far back; the search stops at once in runs that never evaluate.
    held_out = finite_number(latest(folder.metrics).get("eval_rewards/accuracies"))
    dataset = str(read_setting(folder.config, "dataset") or "")
    return RunSummary(folder, about, _model(folder), dataset, held_out, spark, label)


def _model(folder: RunFolder) -> str:
    """The last part of the model's name or path; empty when the config has none."""
    return str(read_setting(folder.config, "model_name") or "").rstrip("/").rpartition("/")[2]


def _spark(metrics: Path) -> tuple[str, tuple[float, ...]]:
    """(label, values) of the sparkline, from the end of the metrics."""
    found: dict[str, list[float]] = {"rewards/accuracies": [], "rewards/margins": []}
    for line in lines_from_end(metrics, TAIL):
        document = parse_line(line) or {}
        for name, values in found.items():
            value = finite_number(document.get(name))
            if value is not None:
                values.append(value)
        if len(found["rewards/accuracies"]) >= SPARK_POINTS:
            break
    for name, label in (("rewards/accuracies", "acc"), ("rewards/margins", "margin")):
        if found[name]:
            return label, tuple(reversed(found[name]))
    return "", ()


def _file_states(folder: RunFolder) -> tuple[int, ...]:
    """Times of the last change and sizes of the files that a summary depends on; -1 for a missing one."""
    paths = (folder.state, folder.given_name, folder.progress, folder.metrics, folder.events, folder.control)
    return tuple(state for path in paths for state in _state_of(path))


def _state_of(path: Path) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:
        return (-1,)
    return status.st_mtime_ns, status.st_size
