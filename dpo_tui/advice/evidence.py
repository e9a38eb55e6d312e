"""What advice on a run rests on: its settings, its metrics, its receipt and its events. Standard library only.

Reading is bounded: of a long metrics file the beginning, the end and pieces between are read, so that a run of a
million steps is judged as fast as one of a thousand.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpo_tui.runs.frozen_config import read_settings
from dpo_tui.runs.statuses import ENDED
from dpo_tui.strategies.metric_expectations import LN2
from dpo_tui.strategies.registry import strategy_in
from dpo_tui.strategies.strategy import LearningRates, Strategy

_WHOLE = 1 << 20
"""A metrics file up to this many bytes is read whole."""
_PIECE = 1 << 16
_PIECES = 16
_EVENTS = 1 << 18


@dataclass(frozen=True)
class Evidence:
    """What is known about a run.

    Attributes:
        settings: of the run, flat; what is missing is unknown.
        metrics: log lines in order of their steps; each has an integer ``step``.
        receipt: as the worker wrote it; empty before it did.
        events: the worker's and the supervisor's.
        max_steps: how many steps the run will take; None where nobody knows yet.
        over: whether no more numbers will come.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, Any]] = ()
    receipt: Mapping[str, Any] = field(default_factory=dict)
    events: Sequence[Mapping[str, Any]] = ()
    max_steps: int | None = None
    over: bool = False
    # A dozen rules ask for the same few series, and the app asks the rules again and again.
    _known: dict[str, list[tuple[int, float]]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def setting(self, name: str, default: float) -> float:
        """Return a numeric setting."""
        value = self.settings.get(name)
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else default

    @property
    def beta(self) -> float:
        """β of the loss; TRL's default where it is unknown."""
        return self.setting("beta", 0.1)

    @property
    def strategy(self) -> Strategy | None:
        """Strategy of the run; None where this version does not know it."""
        return strategy_in(self.settings)

    @property
    def learning_rates(self) -> LearningRates | None:
        """Usual learning rates of the run's strategy; None where they are unknown."""
        return self.strategy.learning_rates if self.strategy else None

    @property
    def sigmoid(self) -> bool:
        """Whether the loss starts as −log σ(0), as DPO's own does: the numbers around 0.6931 hold for it."""
        return self.strategy is not None and self.strategy.start_loss(self.settings) == LN2

    def series(self, name: str) -> list[tuple[int, float]]:
        """Return (step, value) of a metric, finite values only; not to be changed."""
        if (known := self._known.get(name)) is not None:
            return known
        found = self._known[name] = []
        for line in self.metrics:
            value, step = line.get(name), line.get("step")
            if isinstance(step, int) and isinstance(value, (int, float)) and math.isfinite(value):
                found.append((step, float(value)))
        return found

    def values(self, name: str) -> list[float]:
        """Return the values of a metric, finite ones only."""
        return [value for _, value in self.series(name)]

    @property
    def step(self) -> int:
        """The last step that was logged; 0 before the first."""
        return max((line["step"] for line in self.metrics if isinstance(line.get("step"), int)), default=0)

    def told(self, rule: str) -> Mapping[str, Any] | None:
        """Return the newest event in which the worker stated a fact for a rule."""
        return next((event for event in reversed(self.events) if event.get("rule") == rule), None)


def read_evidence(folder: Path) -> Evidence:
    """Read a run folder; what is missing or torn is left out."""
    state, progress = _json(folder / "state.json"), _json(folder / "progress.json")
    steps = progress.get("max_steps")
    return Evidence(
        settings=read_settings(folder / "config.toml"),
        metrics=_one_line_a_step(_lines(folder / "metrics.jsonl", _WHOLE)),
        receipt=_json(folder / "receipt.json"),
        events=[*_lines(folder / "supervisor.jsonl", _EVENTS), *_lines(folder / "events.jsonl", _EVENTS)],
        max_steps=steps if isinstance(steps, int) else None,
        over=state.get("status") in ENDED,
    )


def _one_line_a_step(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put lines in order of their steps; a step that was taken again after a resume counts as the last time."""
    kept: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in lines:
        kind = (
            "loss" if "loss" in line else "eval_loss" if "eval_loss" in line else "eval_kl" if "eval_kl" in line else ""
        )
        if isinstance(line.get("step"), int):
            kept[line["step"], kind] = line
    return sorted(kept.values(), key=lambda line: line["step"])


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _lines(path: Path, whole: int) -> list[dict[str, Any]]:
    try:
        with open(path, "rb") as stream:
            size = stream.seek(0, 2)
            if size <= whole:
                stream.seek(0)
                return _parse(stream.read().split(b"\n"))
            # Both ends, where most is told, and pieces between them; each piece loses its torn ends.
            starts = [0, *((size * number) // _PIECES for number in range(1, _PIECES)), size - _PIECE]
            found: list[dict[str, Any]] = []
            for start in starts:
                stream.seek(start)
                pieces = stream.read(_PIECE).split(b"\n")
                found += _parse(pieces[1:-1] if start else pieces[:-1])
            return found
    except OSError:
        return []


def _parse(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    found = []
    for line in lines:
        try:
            document = json.loads(line)
        except ValueError:
            continue
        if isinstance(document, dict):
            found.append(document)
    return found
