"""What must hold after every fault, one function a rule: each takes what was seen and says what is wrong with it.

They read files and processes by themselves and not by the product's code, which is what is checked. Each is shown to
catch a planted violation by `tests/benchmarks/test_fault_checks.py`.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

EXIT_CODES = frozenset({0, 1, 2, 3, 130})
"""Those that the command line promises."""
_OVER = {"done", "failed", "stopped", "lost"}
_ALIVE = {"starting", "running"}
_STATUSES = _OVER | _ALIVE | {"queued", "stalled", "stopping"}
# All of C0 but tab and line feed, DEL, C1, and the signs that turn the direction of text or are not seen at all.
_RAW_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_SAME = 1e-5
"""Relative difference up to which two losses are the same: sums in another order differ in the last digits."""
_TRACEBACK = "Traceback (most recent call last)"
_LOCKS = {".turn.lock", ".slurm.lock"}
_RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")


def status_is_true(
    status: Mapping[str, Any], *, supervisor: bool, worker: bool, last_step: int, steps: int, has_result: bool
) -> list[str]:
    """A run's status against the processes that live and the files that are there.

    Args:
        status: what ``status --json`` says.
        supervisor: whether its supervisor lives.
        worker: whether its worker lives.
        last_step: the last step in metrics.jsonl.
        steps: how many it is to make.
        has_result: whether its result is whole.
    """
    said = status.get("status")
    if said not in _STATUSES:
        return [f"status: {said!r} is no status"]
    wrong = []
    if said in _ALIVE and not worker and not (said == "starting" and supervisor):
        wrong.append(f"status: {said}, and no worker lives")
    if said not in _OVER and not supervisor and not worker and status.get("reason") != "being launched":
        wrong.append(f"status: {said}, and none of its processes lives")
    if said == "done" and last_step != steps:
        wrong.append(f"status: done at step {last_step} of {steps}")
    if said == "done" and not has_result:
        wrong.append("status: done without a whole result")
    if said == "lost" and supervisor:
        wrong.append("status: lost, and its supervisor lives")
    if said in {"failed", "stopped", "done"} and worker:
        wrong.append(f"status: {said}, and its worker lives")
    return wrong


def status_is_one_of(status: Mapping[str, Any], expected: Sequence[str]) -> list[str]:
    """The status that this fault leads to."""
    if status.get("status") in expected:
        return []
    reason = status.get("reason")
    return [f"status: {status.get('status')} ({reason}) where {' or '.join(expected)} was expected"]


def reason_names_cause(status: Mapping[str, Any], causes: Sequence[str]) -> list[str]:
    """The reason has one of these texts, in whatever case."""
    reason = str(status.get("reason", ""))
    if any(cause.lower() in reason.lower() for cause in causes):
        return []
    return [f"reason: {reason!r} names none of {', '.join(causes)}"]


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file of JSON lines that are whole objects."""
    try:
        text = path.read_bytes()
    except OSError:
        return []
    return [line for line in text.split(b"\n") if _parsed(line) is not None]


def no_line_lost(before: Sequence[bytes], after: Sequence[bytes]) -> list[str]:
    """Every whole line that a file had is still there, in the same order."""
    left = iter(after)
    lost = [line for line in before if not any(line == other for other in left)]
    return [f"metrics: {len(lost)} lines that were written are gone, first {lost[0][:80]!r}"] if lost else []


def steps_in(lines: Iterable[bytes]) -> list[int]:
    """The steps that have a loss, in the order of the lines."""
    found = []
    for line in lines:
        parsed = _parsed(line) or {}
        if type(parsed.get("step")) is int and "loss" in parsed:
            found.append(parsed["step"])
    return found


def every_step_has_a_line(lines: Iterable[bytes], steps: int, without: Collection[int] = ()) -> list[str]:
    """A finished run has metrics of each of its steps but those of ``without``, and of none beyond."""
    found = set(steps_in(lines))
    wrong = []
    if missing := sorted(set(range(1, steps + 1)) - found - set(without)):
        wrong.append(f"metrics: no line of the steps {missing[:8]}")
    if beyond := sorted(step for step in found if step > steps):
        wrong.append(f"metrics: lines of the steps {beyond[:8]}, beyond the last, {steps}")
    return wrong


def same_losses(undisturbed: Mapping[int, float], found: Mapping[int, Sequence[float]]) -> list[str]:
    """Every step has the loss that it has in a run that nothing has disturbed, as often as it was trained."""
    if not undisturbed:
        return ["losses: there is no undisturbed run to compare with"]
    wrong = [
        step
        for step, losses in found.items()
        if step in undisturbed and any(abs(one - undisturbed[step]) > _SAME * abs(undisturbed[step]) for one in losses)
    ]
    return [f"losses: those of the steps {sorted(wrong)[:8]} differ from the undisturbed run's"] if wrong else []


def whole_checkpoints(folder: Path) -> list[int]:
    """Steps of the checkpoints that have a marker and all the files that it lists, in their sizes, oldest first."""
    found = []
    for path in folder.glob("checkpoint-*"):
        try:
            marker = json.loads((path / "complete.json").read_text(encoding="utf-8"))
            whole = all((path / name).stat().st_size == size for name, size in marker["files"].items())
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            continue
        if whole:
            found.append(int(path.name.rpartition("-")[2]))
    return sorted(found)


def resumed_from(said: str, taken: int, right: Sequence[int]) -> list[str]:
    """The command named the checkpoint that the worker took, and that is the newest whole one.

    Args:
        said: what ``resume`` printed.
        taken: the step from which the worker went on.
        right: the steps that are right; several where the worker may have saved after the look.
    """
    named = re.search(r"goes on from checkpoint-(\d+)", said)
    step = int(named[1]) if named else 0
    wrong = [] if step == taken else [f"resume: it said step {step}, the worker went on from step {taken}"]
    if taken not in right:
        wrong.append(f"resume: from step {taken}, the newest whole checkpoint is {' or '.join(map(str, right))}")
    return wrong


def supervisor_is_calm(said: str) -> list[str]:
    """The supervisor has not failed by an exception, whatever it had to write about the disk.

    Args:
        said: supervisor.log.
    """
    return [f"supervisor: {said.strip().splitlines()[-1][:200]}"] if _TRACEBACK in said else []


def no_processes(left: Sequence[Any]) -> list[str]:
    """Nothing of a run that is over lives on."""
    return [f"orphan: process {one.pid} lives on: {one.command[:100]}" for one in left]


def nothing_left_behind(home: Path, allowed: Iterable[str] = ()) -> list[str]:
    """No draft of a run, no half-deleted one, and no temporary file lies in a home.

    Args:
        home: the home.
        allowed: names that may lie there.
    """
    allowed = set(allowed)
    wrong = [
        f"leftover: runs/{path.name}"
        for path in (home / "runs").glob("*")
        if not _RUN_ID.fullmatch(path.name) and path.name not in _LOCKS | allowed
    ]
    temporary = [path for path in home.rglob(".*.tmp") if path.name not in allowed]
    return wrong + [f"leftover: {path.relative_to(home)}" for path in temporary]


def requests_are_gone(run: Path) -> list[str]:
    """No request waits in the folder of a run that is over."""
    left = [path.name for path in (run / "control").glob("*") if path.name != "accept-changed-data"]
    return [f"leftover: control/{name}" for name in left]


def lock_is_free(owner: int | None) -> list[str]:
    """Nobody holds the lock of a run that is over."""
    return [] if owner is None else [f"leftover: run.lock is held by process {owner}"]


def others_are_unharmed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The files of another run are what they were."""
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return [f"other run: {name} changed" for name in changed]


def is_listed(listing: str, run_id: str, status: str) -> list[str]:
    """Another run is in the list of runs, as what it is.

    Args:
        listing: what ``runs --json`` printed.
        run_id: of the other run.
        status: what it is.
    """
    try:
        found = [one for one in json.loads(listing) if one.get("id") == run_id]
    except (ValueError, TypeError, AttributeError):
        return ["other run: `runs --json` printed no list of objects"]
    if not found:
        return ["other run: `runs` does not list it"]
    said = found[0].get("status")
    return [] if said == status else [f"other run: it is {said}, and was {status}"]


def output_is_clean(
    name: str, code: int | None, text: str, codes: Iterable[int] = EXIT_CODES, *, quotes: bool = False
) -> list[str]:
    """A command ended with a code of the contract, without a traceback and without raw control characters.

    Args:
        name: of the command.
        code: its exit code; None where it hung.
        text: all that it printed.
        codes: those that are right.
        quotes: whether it prints what another program has printed, such as the traceback of a worker.
    """
    if code is None:
        return [f"output: `{name}` hung"]
    wrong = [] if code in set(codes) else [f"output: `{name}` ended with {code}: {text[-200:]!r}"]
    if _TRACEBACK in text and not quotes:
        wrong.append(f"output: `{name}` printed a traceback: {text.strip().splitlines()[-1][:200]!r}")
    if raw := _RAW_CONTROL.search(text):
        wrong.append(f"output: `{name}` printed {raw[0]!r} raw: {text[max(0, raw.start() - 30) : raw.end() + 10]!r}")
    return wrong


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
