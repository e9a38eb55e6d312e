"""Logs that other tools write beside the Trainer's, one JSON object a line: LLaMA-Factory's and ms-swift's.

LLaMA-Factory writes ``trainer_log.jsonl`` (llamafactory/train/callbacks.py, ``LogCallback``), ms-swift
``logging.jsonl`` (swift/trainers/callback.py, ``ProgressCallbackNew``); both grow by a line at each logged step.
"""

import re
from pathlib import Path
from typing import Any

from dpo_tui.runs.metrics_reader import MetricsTail
from dpo_tui.views.run_feed import finite_number, parse_metrics_line

LOG_NAMES = ("trainer_log.jsonl", "logging.jsonl")
_STEP_OF = "global_step/max_steps"
"""ms-swift's key of a text such as ``5/275``."""
_STEP_NAMES = ("current_steps", "global_step", "step")
_TOTAL_NAMES = ("total_steps", "max_steps")
_METRIC_NAMES = {
    "lr": "learning_rate",
    "accuracy": "rewards/accuracies",
    "eval_accuracy": "eval_rewards/accuracies",
    "throughput": "tokens_per_second",
    "total_tokens": "num_tokens",
    "token_acc": "mean_token_accuracy",
    "eval_token_acc": "eval_mean_token_accuracy",
}
"""Names of these logs, and those of TRL and this app for the same."""
_NO_METRIC = frozenset({_STEP_OF, *_STEP_NAMES, *_TOTAL_NAMES, "percentage", "elapsed_time", "remaining_time", "epoch"})
_CLOCK = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d)")
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def log_file(folder: Path) -> Path | None:
    """The log of one of these tools in a folder; None when there is none."""
    return next((path for name in LOG_NAMES if (path := folder / name).is_file()), None)


class TrainerLogTail:
    """Reads each line of a growing log once.

    Args:
        path: the file.

    Attributes:
        path: the file.
        max_steps: steps of the whole run, as the newest line says; None before one does.
        epoch: of the newest line; None before one has it.
        eta_seconds: the time left as the newest line says; None where it does not.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.max_steps: float | None = None
        self.epoch: float | None = None
        self.eta_seconds: float | None = None
        self._tail = MetricsTail(path, parse_metrics_line)

    @property
    def skipped(self) -> int:
        """Lines that are no JSON objects."""
        return self._tail.skipped

    @property
    def restarts(self) -> int:
        """How often the file was found replaced and read again from its beginning."""
        return self._tail.restarts

    def poll(self) -> list[dict[str, Any]]:
        """The lines added since the last call that have a step: ``step`` and the metrics under TRL's names."""
        return [line for document in self._tail.poll() if (line := self._line(document))]

    def _line(self, document: dict[str, Any]) -> dict[str, Any]:
        step, total = _steps_of(document)
        if step is None:
            return {}
        self.max_steps = total if total is not None else self.max_steps
        self.epoch = finite_number(document.get("epoch")) or self.epoch
        self.eta_seconds = seconds_of(document.get("remaining_time"))
        metrics = {_METRIC_NAMES.get(name, name): value for name, value in document.items() if name not in _NO_METRIC}
        return {"step": step, **metrics}


def _steps_of(document: dict[str, Any]) -> tuple[float | None, float | None]:
    """The step of a line, and the steps of the whole run."""
    done, _, total = str(document.get(_STEP_OF, "")).partition("/")
    if done.isdecimal():
        return float(done), float(total) if total.isdecimal() else None
    step = next((found for name in _STEP_NAMES if (found := finite_number(document.get(name))) is not None), None)
    return step, next((found for name in _TOTAL_NAMES if (found := finite_number(document.get(name)))), None)


def seconds_of(text: object) -> float | None:
    """Seconds of a duration such as ``0:42:32``, ``1 day, 2:03:04`` or ``42m 32s``; None for anything else."""
    if not isinstance(text, str):
        return None
    if clock := _CLOCK.fullmatch(text.strip()):
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    parts = [re.fullmatch(r"(\d+(?:\.\d+)?)([dhms])", part) for part in text.split()]
    found = [float(part[1]) * _UNITS[part[2]] for part in parts if part]
    return sum(found) if found and len(found) == len(parts) else None
