"""Cases for every call that a run makes, and their results.

    python -m tests.support.failing_calls.sweep FOLDER [some]

stages every call with every errno in every mode, which takes more than an hour of processor time, or as the tests do
with errnos that take turns, and prints the counts.
"""

import errno
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.support.failing_calls.crash_images import Call, read_calls
from tests.support.failing_calls.one_case import Case
from tests.support.repository import ROOT

PLANS = ("train", "stop", "resume")
_SOURCE = Path(__file__).with_name("failing_calls.c")
_ONCE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EINTR)
_STAYS = (errno.EIO, errno.EROFS, errno.ENOSPC)
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Result:
    """What came of a case.

    Args:
        case: what failed.
        violations: what was wrong.
        failed: how many calls failed.
        seen: how the run stood.
        place: its folder, which stays where something was wrong.
    """

    case: Case
    violations: list[str]
    failed: int
    seen: str
    place: str


class Sweep:
    """Stages cases in a folder.

    Args:
        place: an empty folder.
        at_a_time: how many cases are staged side by side.
    """

    def __init__(self, place: Path, at_a_time: int = 4) -> None:
        self._place = place
        self._at_a_time = at_a_time
        self._library = place / "failing_calls.so"
        self._batches = 0
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", self._library, _SOURCE], check=True)

    def results(self, cases: Sequence[Case]) -> list[Result]:
        """Stage cases."""
        self._batches += 1
        folder = self._place / str(self._batches)
        root = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        done = subprocess.run(
            [sys.executable, "-P", "-m", "tests.support.failing_calls.many_cases", str(folder), str(self._at_a_time)],
            input="".join(json.dumps(asdict(case)) + "\n" for case in cases),
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "LD_PRELOAD": str(self._library), "PYTHONPATH": os.pathsep.join(root)},
        )
        rows: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
        results = [Result(**{**row, "case": Case(**row["case"])}) for row in rows]
        assert len(results) == len(cases), "a case has ended without a result"
        return results

    def calls(self, plan: str) -> tuple[list[Call], Path]:
        """The calls of a run in which nothing fails, in order, and the folder of all runs in it."""
        (result,) = self.results([Case(plan)])
        assert result.violations == [], result
        return read_calls(Path(result.place) / "calls"), Path(result.place) / "home" / "runs"


def calls_to_fail(calls: Sequence[Call], plan: str) -> Iterator[Call]:
    """The calls that a plan adds: all of the first; of one that is stopped or goes on those after the stop is asked."""
    seen: set[tuple[str, int]] = set()
    again: set[str] = set()
    asked, goes_on = plan != "stop", False
    for call in calls:
        # The numbers begin anew with the second process of a role, and for commands where the case begins.
        if (call.role, call.number) in seen:
            again.add(call.role)
        seen.add((call.role, call.number))
        asked = asked or call.path.endswith("/control/stop")
        if plan == "resume" and call.role == "worker" and goes_on:
            continue  # from here on it does what it does in any run
        goes_on = goes_on or (call.role in again and call.path.endswith("/metrics.jsonl"))
        if asked and (call.role in again) == (plan == "resume"):
            yield call


def every_case(calls: Sequence[Call], plan: str) -> Iterator[Case]:
    """Every call with every errno in every mode."""
    for call in calls_to_fail(calls, plan):
        for mode, number in _ways(call):
            yield Case(plan, call.role, call.number, number, mode)


def some_cases(calls: Sequence[Call], plan: str) -> Iterator[Case]:
    """Every call in every mode; errnos take turns."""
    for index, call in enumerate(calls_to_fail(calls, plan)):
        wanted = {("once", _ONCE[index % 5]), ("stays", _STAYS[index % 3]), ("full", _FULL[index % 2])}
        for mode, number in _ways(call):
            if (mode, number) in wanted or mode in {"short", "short-full", "kill"}:
                yield Case(plan, call.role, call.number, number, mode)


def _ways(call: Call) -> Iterator[tuple[str, int]]:
    yield from (("once", number) for number in _ONCE)
    yield from (("stays", number) for number in _STAYS)
    yield from (("full", number) for number in _FULL)
    if call.name == "write":
        yield "short", errno.ENOSPC
        yield "short-full", errno.ENOSPC
    # The command is the process that looks, too.
    if call.role != "command":
        yield "kill", errno.EIO


def table(results: Sequence[Result]) -> str:
    """The counts by mode and errno, as lines of a table."""
    staged = Counter((one.case.mode, errno.errorcode[one.case.number]) for one in results if one.failed)
    wrong = Counter((one.case.mode, errno.errorcode[one.case.number]) for one in results if one.violations)
    lines = ["| mode | errno | cases | violations |", "|---|---|---|---|"]
    lines += [f"| {mode} | {name} | {staged[mode, name]} | {wrong[mode, name]} |" for mode, name in sorted(staged)]
    return "\n".join([*lines, f"| sum | | {staged.total()} | {wrong.total()} |"])


def main(place: Path, cases: Callable[[Sequence[Call], str], Iterator[Case]]) -> None:
    """Stage cases and print what was wrong, and the counts."""
    sweep = Sweep(place)
    everything: list[Result] = []
    for plan in PLANS:
        calls, _ = sweep.calls(plan)
        results = sweep.results(list(cases(calls, plan)))
        everything += results
        for one in results:
            if one.violations:
                sys.stdout.write(f"{one.case} {one.place}: {one.violations} ({one.seen})\n")
        sys.stdout.write(f"{plan}: {len(list(calls_to_fail(calls, plan)))} calls\n{table(results)}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{table(everything)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), some_cases if "some" in sys.argv[2:] else every_case)
