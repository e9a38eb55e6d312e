"""The driver: one process an improvement that outlives the terminal, works through its rounds, and records.

    python -m dpo_tui.improve.improvement_driver IMPROVEMENT_DIR

It holds the improvement's lock while it lives. Every answer, score and verdict is in a file before the next is asked
for, and trainings are groups with drivers of their own: killed at any moment, the next driver goes on and asks nothing
twice.
"""

import os
import sys
import threading
import time
import traceback
from pathlib import Path

from dpo_tui.errors import DpoTuiError, RunError
from dpo_tui.groups.driver_record import LOCK_DELETED, DriverRecord
from dpo_tui.groups.group_requests import STOP, STOP_NOW, is_requested
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_plan import read_plan
from dpo_tui.improve.improvement_state import read_improvement_state
from dpo_tui.improve.person_verdicts import WAITING
from dpo_tui.improve.report.write_report import write_report
from dpo_tui.improve.round_figures import round_figures, start_features
from dpo_tui.improve.rounds.answer_sampling import answer_held_out
from dpo_tui.improve.rounds.round_training import TrainingStoppedError
from dpo_tui.improve.rounds.round_work import RoundWork
from dpo_tui.improve.rounds.run_round import TooFewPairsError, run_round
from dpo_tui.improve.stop_rules import Stop, stop_after
from dpo_tui.improve.usage_meter import UsageMeter, sampled_tokens
from dpo_tui.processes.own_children import end_own_children
from dpo_tui.runs import run_lock
from dpo_tui.runs.process import boot_id, host_name, process_start
from dpo_tui.runs.signal_wait import SignalWait
from dpo_tui.runs.state_writer import log_to_stderr

REFUSED_IMPROVEMENT = 4
"""The driver's exit code when it cannot take the improvement."""
_WRITE_EVERY = 1.0
"""Seconds between two writes of the progress within a step."""
_STOP_POLL = 0.5
"""Seconds between two looks for a request to stop while a child loads a model or writes a long answer."""
_COUNT_EVERY = 10.0
"""Seconds between two counts of the sampled tokens within a step, for which files are read."""


class StopRequestedError(Exception):
    """Somebody has asked the improvement, or its driver, to end."""


class LimitReachedError(Exception):
    """A limit of time or tokens is reached within a round.

    Args:
        stop: the limit, with its evidence.
    """

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop.sentence)
        self.stop = stop


def main(argv: list[str]) -> int:
    """Drive an improvement to its end.

    Args:
        argv: the improvement's folder.

    Returns:
        0 when its end is recorded, whatever it was; `REFUSED_IMPROVEMENT` when it was not taken.
    """
    folder = ImprovementFolder(Path(argv[0]))
    signals = SignalWait()  # before the lock: SIGHUP must not end a process that has it
    try:
        if not run_lock.acquire(folder.lock):
            raise RunError(f"improvement {folder.id} has a driver already, process {run_lock.owner(folder.lock)}")
        # Resumed from elsewhere, as after a reboot, it means the same programs and models.
        os.chdir(read_plan(folder).folder or ".")
        driver = ImprovementDriver(folder, signals)
    except (DpoTuiError, OSError) as error:
        sys.stderr.write(f"{error.message if isinstance(error, DpoTuiError) else error}\n")
        return REFUSED_IMPROVEMENT
    driver.run()
    return 0


class ImprovementDriver:
    """The driver of one improvement, whose lock this process holds.

    Args:
        folder: the improvement.
        signals: notes signals.

    Raises:
        RunError: a file of it cannot be read.
    """

    def __init__(self, folder: ImprovementFolder, signals: SignalWait) -> None:
        self._folder, self._signals = folder, signals
        state = read_improvement_state(folder)
        self._work = RoundWork.of(folder, self._progress)
        self._record = DriverRecord(folder, state)
        self._meter = UsageMeter(state.seconds, state.joules, state.unmetered_seconds)
        self._written = self._counted = 0.0
        self._tokens = 0
        self._record.update(
            status="running",
            reason="",
            driver_pid=os.getpid(),
            driver_start=process_start(os.getpid()),
            host=host_name(),
            boot_id=boot_id(),
            started_at=state.started_at or time.time(),
            ended_at=None,
            stop="",
        )
        kind = "resumed" if state.driver_pid is not None else "started"
        self._record.event(kind, f"works on up to {self._work.plan.rounds} rounds", pid=os.getpid())

    def run(self) -> None:
        """Work until a rule stops it, somebody does, or something fails, and record the end and the report."""
        over = threading.Event()
        threading.Thread(target=self._end_children_on_request, args=(over,), daemon=True, name="stop requests").start()
        try:
            self._work_to_an_end()
        finally:
            over.set()

    def _work_to_an_end(self) -> None:
        try:
            stop = self._rounds()
        except LimitReachedError as error:
            stop = error.stop
        except TooFewPairsError as error:
            stop = Stop("too-few-pairs", error.message)
        except (StopRequestedError, TrainingStoppedError) as error:
            self._end("stopped", str(error).partition("\n")[0])
            return
        except (DpoTuiError, OSError) as error:
            if (asked := self._asked_to_stop()) is not None:  # the children were ended for it
                self._end("stopped", asked)
                return
            message = error.message if isinstance(error, DpoTuiError) else f"{error.filename}: {error.strerror}"
            hint = error.hint if isinstance(error, DpoTuiError) and error.hint else ""
            self._end("failed", f"{message}\n{hint}".rstrip())
            return
        except Exception as error:  # a fault of ours, or a file that somebody has changed; `lost` would say "killed"
            traceback.print_exc()
            self._end("failed", _fault(error, self._folder))
            return
        self._end("done", stop.sentence, stop.rule)

    def _rounds(self) -> Stop:
        work, folder = self._work, self._folder
        answer_held_out(work, 0, None, folder.start_answers, "the start model")
        start = start_features(folder)
        rounds = []
        for number in range(1, work.plan.rounds + 1):
            if self._record.state.round != number:
                self._record.update(round=number)
                self._record.event("round", f"round {number} begins", round=number)
            run_round(work, number)
            rounds.append(round_figures(folder, work.plan, number))
            stop = stop_after(work.plan, rounds, start.to_dict() if start else None)
            if stop is not None:
                return stop
            self._write_report()
        raise RunError(f"improvement {folder.id} has no round")  # its plan asks for none

    def _progress(self, step: str, done: int, total: int) -> None:
        """Record how far a step is; see `dpo_tui.improve.rounds.round_work.Progress`.

        Raises:
            StopRequestedError: somebody has asked for it.
            LimitReachedError: of time or tokens.
        """
        if not run_lock.is_in_place(self._folder.lock):  # another driver may write its state: ours must not cover it
            raise StopRequestedError(LOCK_DELETED)
        kind = step.partition(": ")[2] or step
        self._meter.add(kind, counts=kind != WAITING)
        now = time.monotonic()
        begins = step != self._record.state.step
        if begins or now - self._written >= _WRITE_EVERY:
            self._written = now
            self._record.update(step=step, done=done, total=total, **self._meter.fields)
        if (asked := self._asked_to_stop()) is not None:
            raise StopRequestedError(asked)
        self._look_at_limits(now, begins)

    def _asked_to_stop(self) -> str | None:
        if not run_lock.is_in_place(self._folder.lock):
            return LOCK_DELETED
        if self._signals.terminated:
            return "its driver was asked to end, as when the box shuts down"
        if is_requested(self._folder, STOP) or is_requested(self._folder, STOP_NOW):
            return "stopped as asked"
        return None

    def _end_children_on_request(self, over: threading.Event) -> None:
        """End what answers, scores or merges when somebody asks to stop: it may take minutes to its next message.

        Drivers of groups are asked by the step that waits for them.
        """
        while not over.wait(_STOP_POLL):  # again and again: one may be started just after the others were ended
            if self._asked_to_stop() is not None:
                end_own_children()

    def _look_at_limits(self, now: float, step_begins: bool) -> None:
        plan = self._work.plan
        if plan.hours is not None and self._meter.hours >= plan.hours:
            raise LimitReachedError(Stop("hours", f"the limit of {plan.hours:g} hours is reached"))
        if plan.tokens is None:
            return
        if step_begins or now - self._counted >= _COUNT_EVERY:
            self._counted, self._tokens = now, sampled_tokens(self._folder)
        if self._tokens >= plan.tokens:
            sentence = f"the limit of {plan.tokens:,} sampled tokens is reached: {self._tokens:,} are sampled"
            raise LimitReachedError(Stop("tokens", sentence))

    def _end(self, status: str, reason: str, rule: str = "") -> None:
        if not run_lock.is_in_place(self._folder.lock):  # another driver may have taken the improvement: it records
            log_to_stderr(LOCK_DELETED)
            return
        self._record.update(
            status=status,
            reason=reason,
            stop=rule,
            ended_at=time.time(),
            **self._meter.fields,
        )
        self._record.event(status, reason or status)
        self._write_report()
        self._record.settle()

    def _write_report(self) -> None:
        try:
            write_report(self._folder, self._work.plan, self._record.state)
        except Exception as error:  # whatever it is, the end that the report tells of must still be recorded
            if not isinstance(error, DpoTuiError | OSError):
                traceback.print_exc()
            self._record.event("no-report", f"the report cannot be written: {error}")


def _fault(error: Exception, folder: ImprovementFolder) -> str:
    return (
        f"an error that dpo-tui did not expect: {type(error).__name__}: {error}\n"
        f"{folder.driver_output} says where; what was answered and judged is kept"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
