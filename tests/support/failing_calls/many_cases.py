"""Stage many cases, several at a time, each in a fork of one process that has everything imported.

    LD_PRELOAD=failing_calls.so python -P -m tests.support.failing_calls.many_cases FOLDER AT_A_TIME

Cases come as lines of JSON on standard input. For each goes a line of JSON to standard output: the case, the
violations, how many calls failed, and how the run stood.
"""

import json
import os
import shutil
import sys
import traceback
from dataclasses import asdict
from pathlib import Path

from tests.support.failing_calls.one_case import Case, violations_of


def main(folder: Path, at_a_time: int) -> None:
    """Stage the cases of standard input."""
    running = 0
    for index, line in enumerate(sys.stdin.readlines()):
        if running == at_a_time:
            os.wait()
            running -= 1
        if os.fork() == 0:
            _one(Case(**json.loads(line)), folder / str(index))
            os._exit(0)
        running += 1
    while running:
        os.wait()
        running -= 1


def _one(case: Case, place: Path) -> None:
    place.mkdir(parents=True)
    try:
        violations, failed, seen = violations_of(case, place)
    except Exception:
        violations, failed, seen = [traceback.format_exc()], 0, ""
    result = {"case": asdict(case), "violations": violations, "failed": failed, "seen": seen, "place": str(place)}
    # One write: lines of several forks do not mix.
    os.write(1, (json.dumps(result) + "\n").encode())
    if not violations and case.call:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
