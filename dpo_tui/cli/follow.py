"""Follow a run in the foreground: a status line in a terminal, one line for every log entry elsewhere."""

import shutil
import textwrap
import time
from typing import Any

import click

from dpo_tui.advice.diagnose import as_event, diagnose
from dpo_tui.cli.output import is_terminal, narrate
from dpo_tui.cli.run_summary_text import next_steps, result_text
from dpo_tui.cli.stop_on_interrupt import StopOnInterrupt
from dpo_tui.runs import control_requests, exit_codes
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers.launcher import LAUNCH_DEADLINE
from dpo_tui.runs.metrics_reader import MetricsTail
from dpo_tui.runs.state import read_state
from dpo_tui.runs.status import Status, status_of
from dpo_tui.runs.status_names import PHASES
from dpo_tui.runs.summary import eta_of
from dpo_tui.text.durations import duration
from dpo_tui.text.printable import printable

_POLL_SECONDS = 0.25
_TRAINING = (
    ("loss", "loss", "{:z.4f}"),
    ("accuracy", "rewards/accuracies", "{:.2f}"),
    ("margin", "rewards/margins", "{:z.3f}"),
    ("tok/s", "tokens_per_second", "{:,.0f}"),
)
_EVALUATION = (
    ("eval loss", "eval_loss", "{:z.4f}"),
    ("eval accuracy", "eval_rewards/accuracies", "{:.2f}"),
    ("KL", "eval_kl", "{:z.2f}"),
)


class RunLog:
    """Readers of what a run writes; what they have read is not shown again."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.events, self.metrics = MetricsTail(folder.events), MetricsTail(folder.metrics)
        state = read_state(folder)
        self._supervisor = (state.supervisor_pid, state.supervisor_start) if state is not None else None

    def skip(self) -> None:
        """Read what is there, without a word: a run that is resumed has shown it once."""
        self.events.poll()
        self.metrics.poll()

    def wait_for_supervisor(self) -> None:
        """Wait until another supervisor has taken the run: until then its state is that of the attempt before."""
        deadline = time.monotonic() + LAUNCH_DEADLINE
        while time.monotonic() < deadline:
            state = read_state(self.folder)
            if state is not None and (state.supervisor_pid, state.supervisor_start) != self._supervisor:
                return
            time.sleep(_POLL_SECONDS)


def follow(folder: RunFolder, log: RunLog | None = None) -> int:
    """Show a run until it ends, and return the command's exit code.

    The first Ctrl-C asks the run to stop with a checkpoint, the second to stop at once. A hang-up ends this command
    only: the run's supervisor has a session of its own.

    Args:
        folder: the run.
        log: what it has shown already; by default nothing.
    """
    log = log or RunLog(folder)
    events, metrics = log.events, log.metrics
    line = _StatusLine()
    with StopOnInterrupt(
        lambda now: control_requests.request_stop(folder, now=now), "stopping after this step, with a checkpoint"
    ):
        while True:
            # The status is read before the files: what the run wrote before its end is then still shown.
            status = status_of(folder)
            for event in events.poll():
                line.clear()
                _narrate_event(event)
            for entry in metrics.poll():
                line.latest |= entry
                if not line.is_shown and (figures := _figures(entry, *_TRAINING, *_EVALUATION)):
                    narrate(f"step {entry.get('step')}  {figures}")
            if status.over:
                line.clear()
                return _print_end(folder, status)
            line.show(folder, status)
            time.sleep(_POLL_SECONDS)


class _StatusLine:
    """A line that is overwritten in place on stderr; nothing is shown where stderr is no terminal."""

    def __init__(self) -> None:
        self.is_shown = is_terminal()
        self.latest: dict[str, Any] = {}
        self._shown = ""

    def clear(self) -> None:
        if self._shown:
            click.echo("\r\x1b[K", nl=False, err=True)
            self._shown = ""

    def show(self, folder: RunFolder, status: Status) -> None:
        if not self.is_shown:
            return
        width = shutil.get_terminal_size().columns
        parts = (_progress_text(status), _eta(folder, status), _figures(self.latest, *_TRAINING))
        text = " · ".join(part for part in parts if part)
        text = text[: width - 1]
        if text != self._shown:
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)
            self._shown = text


def _narrate_event(event: dict[str, Any]) -> None:
    kind, message = event.get("kind"), printable(str(event.get("message", "")), single_line=True)
    if kind == "phase" and event.get("phase") in {"train", "evaluate", "done"}:
        return  # the metrics show these phases
    mark = {"warning": "! ", "failed": "✗ ", "checkpoint": "  "}.get(str(kind), "  ")
    width = shutil.get_terminal_size().columns
    narrate(
        textwrap.fill(message, width, initial_indent=mark, subsequent_indent="  ") if is_terminal() else mark + message
    )


def _progress_text(status: Status) -> str:
    if status.status not in {"running", "stopping"}:
        reason = f": {status.reason.splitlines()[0]}" if status.reason else ""
        return f"{status.status}{printable(reason, single_line=True)}"
    progress = status.progress
    step, last = progress.get("step"), progress.get("max_steps")
    position = f"step {step:,}/{last:,}" if step is not None and last else ""
    phase = printable(str(progress.get("phase", "")), single_line=True)
    if phase == "train" and position:
        return position
    done, total = progress.get("done"), progress.get("total")
    unit = printable(str(progress.get("unit") or ""), single_line=True)
    counted = f" {done:,.0f}/{total:,.0f} {unit}".rstrip() if done and total else ""
    return f"{position + ' · ' if position else ''}{PHASES.get(phase, phase)}{counted}"


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


def _print_end(folder: RunFolder, status: Status) -> int:
    """Print how a run ended and what can be done next; return the command's exit code."""
    if status.status == "done":
        narrate(f"✓ done: {folder.path}")
        advice = diagnose(folder.path)[0]
        _narrate_event({"kind": "warning" if advice.is_problem else "note", "message": advice.message})
        if result := result_text(folder.path):
            _narrate_event({"kind": "note", "message": result})
        _narrate_next_steps({"id": folder.id, "status": status.status, "advice": as_event(advice)})
        return exit_codes.DONE
    narrate(f"{status.status}: {printable(status.reason)}".rstrip(": "))
    _narrate_next_steps({"id": folder.id, "status": status.status})
    return exit_codes.STOPPED if status.status == "stopped" else exit_codes.FAILED


def _narrate_next_steps(run: dict[str, Any]) -> None:
    for line in next_steps(run):
        narrate(line)
