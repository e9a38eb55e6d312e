"""What is done and checked after the damage: look at the run, resume it, see it end, and delete it."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.fault_kinds import checks
from benchmarks.fault_kinds.stage import Stage, lock_owner
from dpo_tui.runs.folder import RunFolder


@dataclass(frozen=True)
class Begun:
    """What was there when a run was resumed.

    Args:
        right: the steps from which it may go on.
        lines: of its metrics.
        events: size of its events.
        said: what the command said.
    """

    right: Sequence[int]
    lines: list[bytes]
    events: int
    said: str


SETTLING = 60.0
"""Seconds in which a status must have become true: a worker's end that cannot be recorded is seen after ten, and one
that fails imports torch for its words."""


def look(
    stage: Stage, run: RunFolder, expected: Sequence[str], causes: Sequence[str] = (), *, steps: int = 12
) -> dict[str, Any]:
    """Wait until the run's status is one of those expected; check that it is true and names the cause.

    A status that says the run has ended while it has not is wrong at any moment, and not only at the end.

    Args:
        stage: where.
        run: the run.
        expected: the statuses to which the fault leads.
        causes: texts of which the reason has one.
        steps: how many steps the run makes.
    """
    deadline = time.monotonic() + SETTLING
    false_before: list[str] = []
    while True:
        status = stage.status(run)
        problems = truth(stage, run, status, steps)
        false_end = [one for one in problems if one.startswith(("status: done", "status: lost"))]
        stage.wrong(one for one in false_end if one in false_before)
        false_before = false_end
        problems += checks.status_is_one_of(status, expected)
        if causes:
            problems += checks.reason_names_cause(status, causes)
        if not problems or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    stage.wrong(problems)
    for command in (("status", run.id), ("runs",), ("logs", run.id)):
        stage.call(*command)
    return status


def truth(stage: Stage, run: RunFolder, status: dict[str, Any], steps: int) -> list[str]:
    """What is untrue in a status at this moment."""
    return checks.status_is_true(
        status,
        supervisor=stage.supervisor(run) is not None,
        worker=stage.worker(run) is not None,
        last_step=stage.last_step(run),
        steps=steps,
        has_result=has_whole_result(run),
    )


def has_whole_result(run: RunFolder) -> bool:
    """Whether the adapter, its config and the model card are there."""
    needed = (run.adapter / "adapter_model.safetensors", run.adapter / "adapter_config.json", run.model_card)
    return all(path.is_file() and path.stat().st_size for path in needed)


def go_on(
    stage: Stage,
    run: RunFolder,
    *,
    steps: int = 12,
    right: Sequence[int] | None = None,
    options: dict[str, Any] | None = None,
    seconds: float = 90.0,
    destroyed: Sequence[int] = (),
) -> None:
    """Resume the run, wait until it is done, and check from where it went on and what it has kept.

    Args:
        stage: where.
        run: a run that is over.
        steps: how many steps it makes.
        right: the steps to go on from; that of the newest whole checkpoint by default.
        options: of the stand-in worker from now on.
        seconds: how long that may take.
        destroyed: steps whose lines the fault itself has torn; those that are trained again must have new ones.
    """
    stage.until(lambda: stage.worker(run) is None, "the last worker to end")
    begun = resume(stage, run, right=right, options=options)
    if begun is None:
        return
    wait_for_end(stage, run, seconds)
    look(stage, run, ["done"], steps=steps)
    check_resumed(stage, run, begun)
    behind = [step for step in destroyed if step <= max(begun.right, default=0)]
    stage.wrong(checks.every_step_has_a_line(checks.whole_lines(run.metrics), steps, without=behind))


def resume(
    stage: Stage, run: RunFolder, *, right: Sequence[int] | None = None, options: dict[str, Any] | None = None
) -> "Begun | None":
    """Call ``resume``; return what is compared later, None where it was refused, which is a violation."""
    if options is not None:
        stage.train_by(**options)
    right = right if right is not None else [max(checks.whole_checkpoints(run.checkpoints), default=0)]
    before = checks.whole_lines(run.metrics)
    events = size_of(run)
    command = stage.call("resume", run.id, codes={0})
    return Begun(right, before, events, command.err) if command.code == 0 else None


def wait_for_end(stage: Stage, run: RunFolder, seconds: float = 90.0) -> None:
    """Wait until the run's processes have gone and its end is recorded."""
    stage.until(
        lambda: json_status(run) in {"done", "failed", "stopped"} and lock_owner(run.lock) is None,
        f"{run.id} to end",
        seconds,
    )


def check_resumed(stage: Stage, run: RunFolder, begun: "Begun") -> None:
    """Check from where a resumed run went on, and that it has kept its metrics."""
    stage.wrong(checks.resumed_from(begun.said, taken_step(run, begun.events), begun.right))
    stage.wrong(checks.no_line_lost(begun.lines, checks.whole_lines(run.metrics)))


def check_done(stage: Stage, run: RunFolder, *, steps: int = 12, seconds: float = 90.0) -> None:
    """Wait for the end of a run that the fault must not have ended, and check that it is done and whole."""
    stage.let_go()
    wait_for_end(stage, run, seconds)
    look(stage, run, ["done"], steps=steps)
    stage.wrong(checks.every_step_has_a_line(checks.whole_lines(run.metrics), steps))


def finish(stage: Stage, *, over: Iterable[RunFolder] | None = None, allowed: Iterable[str] = ()) -> None:
    """Check what must hold once all is over: no process, request, lock or file is left; delete the runs.

    Args:
        stage: where.
        over: the runs; those that the stage has started by default.
        allowed: names that may be left in the folder of runs.
    """
    try:
        stage.until(lambda: not stage.processes(), "all processes to end", 20)
    except Exception:
        stage.wrong(checks.no_processes(stage.processes()))
        stage.close()
    runs = [run for run in (stage.runs if over is None else over) if run.path.exists()]
    for run in runs:
        stage.wrong(checks.requests_are_gone(run.path))
        stage.wrong(checks.lock_is_free(lock_owner(run.lock)))
        if run.supervisor_output.is_file():
            said = run.supervisor_output.read_text(encoding="utf-8", errors="replace")
            stage.wrong(checks.supervisor_is_calm(said))
    stage.wrong(checks.nothing_left_behind(stage.home, allowed))
    stage.bystander_is_unharmed()
    for run in runs:
        stage.call("rm", "--yes", run.id, codes={0})
        if run.path.exists():
            stage.wrong([f"leftover: `rm` left {run.path.name}"])
    stage.wrong(checks.nothing_left_behind(stage.home))


def taken_step(run: RunFolder, offset: int) -> int:
    """The step from which a worker went on that has written its events behind this offset; 0 for the beginning."""
    with open(run.events, "rb") as stream:
        stream.seek(offset)
        lines = stream.read().split(b"\n")
    for line in lines:
        if b"Resuming from step" in line:
            return int(json.loads(line)["step"])
    return 0


def size_of(run: RunFolder) -> int:
    """The size of the run's events."""
    return run.events.stat().st_size if run.events.exists() else 0


def json_status(run: RunFolder) -> str:
    """The status in state.json, read here; empty where it cannot be read."""
    try:
        found = json.loads(run.state.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(found.get("status", "")) if isinstance(found, dict) else ""
