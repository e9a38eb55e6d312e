"""One session of the campaign in a process of its own: one fault, or one real run with several."""

import os
import shutil
import signal
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fault_kinds.kind import KINDS
from benchmarks.fault_kinds.stage import Stage

DEADLINE = 400.0
"""Seconds that one fault may take before it counts as a violation of its own."""


@dataclass(frozen=True)
class Session:
    """Faults that take place in one stage, one after the other.

    Args:
        keys: ``KIND/INDEX`` of each.
    """

    keys: tuple[str, ...]


def kind_of(key: str) -> str:
    """The kind of a fault."""
    return key.rpartition("/")[0]


def run_session(session: Session, seed: int, work: Path, bystander: Path | None) -> list[dict[str, Any]]:
    """Inject the faults of a session in this process, and say what was found.

    Args:
        session: its faults.
        seed: of the campaign.
        work: folder for its home.
        bystander: a finished run that must stay unharmed.
    """
    folder = Path(tempfile.mkdtemp(prefix="f-", dir=work))
    stage = Stage(folder, session.keys[0], seed, bystander)
    results = []
    try:
        for key in session.keys:
            results.append(_inject(stage, key, seed, last=key == session.keys[-1]))
    finally:
        with suppress(Exception):
            stage.close()
        if not any(one["violations"] for one in results) or not os.environ.get("FAULTS_KEEP"):
            shutil.rmtree(folder, ignore_errors=True)
    return results


def _inject(stage: Stage, key: str, seed: int, *, last: bool) -> dict[str, Any]:
    stage.begin_fault(key, seed)
    began = time.monotonic()
    skipped = ""
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(int(DEADLINE))
    try:
        KINDS[kind_of(key)].inject(stage)
        if last:
            for end in stage.at_end:
                end(stage)
    except NotPossibleHere as error:
        skipped = str(error)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        inner = [one for one in traceback.extract_tb(error.__traceback__) if "fault_kinds" in one.filename]
        line = inner[-1].lineno if inner else place.lineno
        stage.wrong([f"stage: {type(error).__name__}: {error} (line {line})"])
    finally:
        signal.alarm(0)
    return {
        "fault": key,
        "kind": kind_of(key),
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
        "violations": list(stage.violations),
        "notes": list(stage.notes),
        "skipped": skipped,
        "home": str(stage.home),
    }


class NotPossibleHere(Exception):
    """The machine lacks what a fault needs; it counts as not injected."""


class TooLong(Exception):
    """A fault did not come to its end."""


def _too_long(_number: int, _frame: object) -> None:
    raise TooLong(f"the fault took more than {DEADLINE:g} s")
