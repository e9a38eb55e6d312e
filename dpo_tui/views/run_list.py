"""All runs at a glance, refreshed by looking at file times: a hundred quiet runs cost no reading."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_tui.errors import RunError
from dpo_tui.runs.atomic_files import lines_from_end, parse_line
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.frozen_config import read_setting
from dpo_tui.runs.statuses import LIVE, UNKNOWN
from dpo_tui.runs.store import all_runs
from dpo_tui.runs.summary import summary
from dpo_tui.views.run_feed import number

TAIL = 1 << 15
SPARK_POINTS = 32
RECHECK = 3.0
"""Seconds after which a live run is looked at again though no file changed: it may have stalled or died."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run as the home screen shows it.

    Attributes:
        folder: where it is.
        about: `dpo_tui.runs.store.summary`.
        model: the model's name, from the config.
        spark: recent values of the accuracy, or of the margin where there is no accuracy.
        spark_label: which of the two.
    """

    folder: RunFolder
    about: dict[str, Any]
    model: str = ""
    spark: tuple[float, ...] = ()
    spark_label: str = ""

    @property
    def id(self) -> str:
        """The run's id."""
        return self.folder.id

    @property
    def name(self) -> str:
        """What the person calls it."""
        return str(self.about.get("name") or self.folder.id)

    @property
    def status(self) -> str:
        """As of the last look."""
        return str(self.about.get("status", UNKNOWN))

    @property
    def fraction(self) -> float | None:
        """How far it is, 0 to 1; None while the number of steps is not known."""
        step, last = number(self.about.get("step")), number(self.about.get("max_steps"))
        return step / last if step is not None and last else None


class RunList:
    """The home folder's runs, newest first."""

    def __init__(self) -> None:
        self.glances: list[RunSummary] = []
        self._known: dict[str, tuple[tuple[int, ...], float, RunSummary]] = {}

    def poll(self, now: float) -> bool:
        """Look again and say whether anything is different.

        Raises:
            HomeError: the home folder cannot be read.
        """
        known: dict[str, tuple[tuple[int, ...], float, RunSummary]] = {}
        for folder in all_runs():
            mark = _mark(folder)
            old = self._known.get(folder.id)
            if old is not None and old[0] == mark and (old[2].status not in LIVE or now - old[1] < RECHECK):
                known[folder.id] = old
            else:
                known[folder.id] = (mark, now, _glance(folder, now))
        self._known = known
        glances = [known[run_id][2] for run_id in sorted(known, reverse=True)]
        changed = glances != self.glances
        self.glances = glances
        return changed


def _glance(folder: RunFolder, now: float) -> RunSummary:
    try:
        about = summary(folder, now=now, brief=True)
    except RunError as error:
        about = {"id": folder.id, "name": "", "status": UNKNOWN, "reason": error.message}
    label, spark = _spark(folder.metrics)
    return RunSummary(folder, about, _model(folder), spark, label)


def _model(folder: RunFolder) -> str:
    """The model's name without its folders; empty when the config does not say."""
    return str(read_setting(folder.config, "model_name") or "").rstrip("/").rpartition("/")[2]


def _spark(metrics: Path) -> tuple[str, tuple[float, ...]]:
    found: dict[str, list[float]] = {"rewards/accuracies": [], "rewards/margins": []}
    for line in lines_from_end(metrics, TAIL):
        document = parse_line(line) or {}
        for name, values in found.items():
            value = number(document.get(name))
            if value is not None:
                values.append(value)
        if len(found["rewards/accuracies"]) >= SPARK_POINTS:
            break
    for name, label in (("rewards/accuracies", "acc"), ("rewards/margins", "margin")):
        if found[name]:
            return label, tuple(reversed(found[name]))
    return "", ()


def _mark(folder: RunFolder) -> tuple[int, ...]:
    marks: list[int] = []
    for path in (folder.state, folder.given_name, folder.progress, folder.metrics, folder.events, folder.control):
        try:
            status = os.stat(path)
            marks += (status.st_mtime_ns, status.st_size)
        except OSError:
            marks.append(-1)
    return tuple(marks)
