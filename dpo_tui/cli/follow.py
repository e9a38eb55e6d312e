"""Follow a run in the foreground: one line that moves in a terminal, one line a log elsewhere."""

import shutil
import signal
import textwrap
import time
from types import FrameType
from typing import Any

import click

from dpo_tui.advice.diagnose import as_event, diagnose
from dpo_tui.cli.output import is_terminal, narrate
from dpo_tui.cli.run_text import next_steps, result_words
from dpo_tui.errors import RunError
from dpo_tui.runs import exit_codes, requests
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.metrics import MetricsTail
from dpo_tui.runs.status import Status, duration, status_of
from dpo_tui.runs.statuses import PHASES
from dpo_tui.runs.summary import eta_of
from dpo_tui.text.printable import printable

_POLL_SECONDS = 0.25
_TRAINING = (
    ("loss", "loss", "{:.4f}"),
    ("accuracy", "rewards/accuracies", "{:.2f}"),
    ("margin", "rewards/margins", "{:.3f}"),
    ("tok/s", "tokens_per_second", "{:,.0f}"),
)
_EVALUATION = (
    ("eval loss", "eval_loss", "{:.4f}"),
    ("eval accuracy", "eval_rewards/accuracies", "{:.2f}"),
    ("KL", "eval_kl", "{:.2f}"),
)


def follow(folder: RunFolder) -> int:
    """Show a run until it ends, and return the command's exit code.

    The first Ctrl-C asks the run to stop with a checkpoint, the second to stop at once. A hang-up ends only the
    following; the run goes on.
    """
    interrupts = _Interrupts(folder)
    events, metrics = MetricsTail(folder.events), MetricsTail(folder.metrics)
    line = _StatusLine()
    with interrupts:
        while True:
            status = status_of(folder)
            for event in events.poll():
                line.clear()
                _tell_event(event)
            for entry in metrics.poll():
                line.latest |= entry
                if not line.moves and (figures := _figures(entry, *_TRAINING, *_EVALUATION)):
                    narrate(f"step {entry.get('step')}  {figures}")
            if status.over:
                line.clear()
                return _end(folder, status)
            line.show(folder, status)
            time.sleep(_POLL_SECONDS)


class _Interrupts:
    """Ctrl-C while following: once asks for a checkpoint and a stop, twice for a stop at once."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.count = 0
        self._before: Any = None

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGINT, self._on_interrupt)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        try:
            requests.request_stop(self.folder, now=self.count > 1)
        except RunError:
            return  # it ended just now; the loop will say how
        again = "stopping at once" if self.count > 1 else "stopping after this step, with a checkpoint (again: at once)"
        narrate(f"\n{again}")


class _StatusLine:
    """The line at the bottom of a terminal; nothing where stderr is none."""

    def __init__(self) -> None:
        self.moves = is_terminal()
        self.latest: dict[str, Any] = {}
        self._shown = ""

    def clear(self) -> None:
        if self._shown:
            click.echo("\r\x1b[K", nl=False, err=True)
            self._shown = ""

    def show(self, folder: RunFolder, status: Status) -> None:
        if not self.moves:
            return
        width = shutil.get_terminal_size().columns
        parts = (_progress_words(status), _eta(folder, status), _figures(self.latest, *_TRAINING))
        text = " · ".join(part for part in parts if part)
        text = text[: width - 1]
        if text != self._shown:
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)
            self._shown = text


def _tell_event(event: dict[str, Any]) -> None:
    kind, message = event.get("kind"), printable(str(event.get("message", "")), single_line=True)
    if kind == "phase" and event.get("phase") in {"train", "evaluate", "done"}:
        return  # metrics tell of these
    mark = {"warning": "! ", "failed": "✗ ", "checkpoint": "  "}.get(str(kind), "  ")
    width = shutil.get_terminal_size().columns
    narrate(
        textwrap.fill(message, width, initial_indent=mark, subsequent_indent="  ") if is_terminal() else mark + message
    )


def _progress_words(status: Status) -> str:
    if status.status not in {"running", "stopping"}:
        reason = f": {status.reason.splitlines()[0]}" if status.reason else ""
        return f"{status.status}{printable(reason, single_line=True)}"
    progress = status.progress
    step, last = progress.get("step"), progress.get("max_steps")
    words = f"step {step:,}/{last:,}" if step is not None and last else ""
    phase = str(progress.get("phase", ""))
    if phase == "train" and words:
        return words
    done, total, unit = progress.get("done"), progress.get("total"), progress.get("unit") or ""
    counted = f" {done:,.0f}/{total:,.0f} {unit}".rstrip() if done and total else ""
    return f"{words + ' · ' if words else ''}{PHASES.get(phase, phase)}{counted}"


def _figures(entry: dict[str, Any], *wanted: tuple[str, str, str]) -> str:
    parts = []
    for label, key, form in wanted:
        value = entry.get(key)
        if isinstance(value, int | float):
            parts.append(f"{label} {form.format(value)}")
    return "  ".join(parts)


def _eta(folder: RunFolder, status: Status) -> str:
    seconds = eta_of(folder, status, time.time())
    return f"ETA {duration(seconds)}" if seconds is not None else ""


def _end(folder: RunFolder, status: Status) -> int:
    if status.status == "done":
        narrate(f"✓ done: {folder.path}")
        advice = diagnose(folder.path)[0]
        _tell_event({"kind": "warning" if advice.alarm else "note", "message": advice.words})
        if words := result_words(folder.path):
            _tell_event({"kind": "note", "message": words})
        _tell_next({"id": folder.id, "status": status.status, "advice": as_event(advice)})
        return exit_codes.DONE
    narrate(f"{status.status}: {printable(status.reason)}".rstrip(": "))
    _tell_next({"id": folder.id, "status": status.status})
    return exit_codes.STOPPED if status.status == "stopped" else exit_codes.FAILED


def _tell_next(run: dict[str, Any]) -> None:
    for line in next_steps(run):
        narrate(line)
