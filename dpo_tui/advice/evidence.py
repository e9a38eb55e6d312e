"""The input of the rules: settings, metrics, receipt and events of a run. Standard library only.

Reading is bounded: of a long metrics file the beginning, the end and pieces between are read, so that a run of a
million steps takes no longer than one of a few thousand.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from dpo_tui.runs.atomic_files import only_regular, read_json
from dpo_tui.runs.frozen_config import read_settings
from dpo_tui.runs.status_names import ENDED
from dpo_tui.strategies.registry import strategy_in
from dpo_tui.strategies.strategy import LearningRates, LossScale, Strategy

_MAX_METRICS_BYTES = 1 << 20
_MAX_EVENTS_BYTES = 1 << 18
"""Files up to this size are read whole; of larger ones, pieces."""
_PIECE_BYTES = 1 << 16
_PIECES = 16
_ADDED_LOSS_SHARE = 0.2
"""Share of the expected first loss by which the logged one may differ from it: an auxiliary loss is small."""


@dataclass(frozen=True)
class Evidence:
    """What is known about a run, as far as its folder tells.

    Attributes:
        settings: the run's config fields, without tables; a missing one is unknown.
        metrics: lines of ``metrics.jsonl`` in order of their steps; each has an integer ``step``.
        receipt: of the worker; empty before it is written.
        events: the supervisor's, then the worker's, each oldest first.
        max_steps: optimizer steps of the whole run; None before the worker has counted them.
        over: whether the run has ended, so that no more metrics will come.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, Any]] = ()
    receipt: Mapping[str, Any] = field(default_factory=dict)
    events: Sequence[Mapping[str, Any]] = ()
    max_steps: int | None = None
    over: bool = False
    # A dozen rules ask for the same few series. The cache is left out of comparisons and of `dataclasses.replace`.
    _series: dict[str, list[tuple[int, float]]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def setting(self, name: str, default: float) -> float:
        """Return a numeric setting, or the default where it is unknown or no number."""
        value = self.settings.get(name)
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else default

    @property
    def beta(self) -> float:
        """β of the loss; TRL's default where it is unknown."""
        return self.setting("beta", 0.1)

    def longer_warmup(self, ratio: float) -> dict[str, float]:
        """Return a remedy that warms up over a share of the steps; empty where the run does so already, or longer."""
        steps = self.settings.get("warmup_steps")
        if isinstance(steps, int) and not self.max_steps:
            return {}
        current = (
            steps / self.max_steps if isinstance(steps, int) and self.max_steps else self.setting("warmup_ratio", 0.1)
        )
        return {"warmup_ratio": ratio} if current < ratio else {}

    @property
    def strategy(self) -> Strategy | None:
        """Strategy of the run; None where this version does not know it."""
        return strategy_in(self.settings)

    @property
    def learning_rates(self) -> LearningRates | None:
        """Usual learning rates of the run's strategy; None where they are unknown."""
        return self.strategy.learning_rates if self.strategy else None

    @property
    def loss_scale(self) -> LossScale | None:
        """Where the run's loss starts and how far it can fall; None for a loss that this version does not know."""
        return self.strategy.loss_scale(self.settings) if self.strategy else None

    @property
    def compares_means(self) -> bool:
        """Whether the loss compares means per token: it may fall while the accuracy of whole answers does not rise."""
        return self.strategy is not None and self.strategy.compares_means(self.settings)

    @property
    def loss_unit(self) -> float | None:
        """How far the loss can fall, as a multiple of DPO's own (ln 2); None for a loss that has no known start."""
        return self.loss_scale.unit if self.loss_scale else None

    @property
    def loss_start(self) -> float | None:
        """The training loss before the first update: as logged, else as it must be; None where neither is known.

        What was logged has parts that no table knows: the ``sft`` part of several losses, the weights of WPO, the
        auxiliary loss of a mixture of experts. It counts if it is about as high as it must be.
        """
        expected = self.loss_scale.start if self.loss_scale else None
        # The metrics of step 1 are of its forward pass, before the first update.
        logged = next((value for step, value in self.series("loss") if step <= 1), None)
        if logged is None or expected is None:
            return expected if logged is None else logged
        return logged if abs(logged - expected) <= _ADDED_LOSS_SHARE * expected else expected

    @property
    def pairs_per_line(self) -> float:
        """How many examples one line of training metrics averages over."""
        batch = self.receipt.get("effective_batch")
        return (float(batch) if isinstance(batch, int) else 8.0) * max(self.setting("logging_steps", 1), 1.0)

    @property
    def steps_per_epoch(self) -> float:
        """Optimizer steps of one pass over the training rows; infinite where the receipt does not say how many."""
        data, batch = self.receipt.get("data"), self.receipt.get("effective_batch")
        rows = data.get("train") if isinstance(data, dict) else None
        if not isinstance(rows, int) or not isinstance(batch, int) or rows <= 0 or batch <= 0:
            return math.inf
        return math.ceil(rows / batch)

    def series(self, name: str) -> list[tuple[int, float]]:
        """Return (step, value) of a metric, finite values only. The list is cached: callers must not change it."""
        if (cached := self._series.get(name)) is not None:
            return cached
        points = self._series[name] = []
        for line in self.metrics:
            value, step = line.get(name), line.get("step")
            if isinstance(step, int) and is_finite(value):
                points.append((step, float(value)))
        return points

    def values(self, name: str) -> list[float]:
        """Return the values of a metric, finite ones only."""
        return [value for _, value in self.series(name)]

    def moved(self, name: str) -> list[tuple[int, float]]:
        """Return (step, change since the start) of a reward or a margin.

        Against a reference they begin at 0. Without one they are β times log-probabilities themselves, so that the mean
        of the first tenth of the log is subtracted.
        """
        points = self.series(name)
        if not points or self.strategy is None or self.strategy.has_reference:
            return points
        first = points[: max(1, len(points) // 10)]
        start = sum(value for _, value in first) / len(first)
        return [(step, value - start) for step, value in points]

    @property
    def step(self) -> int:
        """The last step that was logged; 0 before the first."""
        return max((line["step"] for line in self.metrics if isinstance(line.get("step"), int)), default=0)

    def newest_event(self, rule: str) -> Mapping[str, Any] | None:
        """Return the newest event that the worker wrote for a rule; None without one."""
        return next((event for event in reversed(self.events) if event.get("rule") == rule), None)


def is_finite(value: Any) -> TypeGuard[float]:
    """Whether a value of the log is a finite number; NaN may be written as null."""
    try:
        return isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def read_evidence(folder: Path) -> Evidence:
    """Read a run folder; files that are missing and lines that are incomplete are left out."""
    state, progress = read_json(folder / "state.json") or {}, read_json(folder / "progress.json") or {}
    steps = progress.get("max_steps")
    return Evidence(
        settings=read_settings(folder / "config.toml"),
        metrics=_newest_per_step(_read_json_lines(folder / "metrics.jsonl", _MAX_METRICS_BYTES)),
        receipt=read_json(folder / "receipt.json") or {},
        events=[
            *_read_json_lines(folder / "supervisor.jsonl", _MAX_EVENTS_BYTES),
            *_read_json_lines(folder / "events.jsonl", _MAX_EVENTS_BYTES),
        ],
        max_steps=steps if isinstance(steps, int) else None,
        over=str(state.get("status")) in ENDED,
    )


def _newest_per_step(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort lines by step; of a step that was repeated after a resume, keep the last line of each kind."""
    # Training metrics, evaluation and KL of one step are lines of their own, and must not replace each other.
    newest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in lines:
        kind = (
            "loss" if "loss" in line else "eval_loss" if "eval_loss" in line else "eval_kl" if "eval_kl" in line else ""
        )
        if isinstance(line.get("step"), int):
            newest[line["step"], kind] = line
    return sorted(newest.values(), key=lambda line: line["step"])


def _read_json_lines(path: Path, max_bytes: int) -> list[dict[str, Any]]:
    """Parse a JSON Lines file, or pieces of it if it is larger than ``max_bytes``."""
    try:
        with open(path, "rb", opener=only_regular) as stream:
            size = stream.seek(0, 2)
            if size <= max_bytes:
                stream.seek(0)
                return _parse_json_lines(stream.read().split(b"\n"))
            # Pieces at equal distances, the beginning and the end among them. A piece starts and ends within a
            # line; both are dropped.
            starts = [0, *((size * number) // _PIECES for number in range(1, _PIECES)), size - _PIECE_BYTES]
            parsed: list[dict[str, Any]] = []
            for start in starts:
                stream.seek(start)
                pieces = stream.read(_PIECE_BYTES).split(b"\n")
                parsed += _parse_json_lines(pieces[1:-1] if start else pieces[:-1])
            return parsed
    except OSError:
        return []


def _parse_json_lines(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    documents = []
    for line in lines:
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(document, dict):
            documents.append(document)
    return documents
