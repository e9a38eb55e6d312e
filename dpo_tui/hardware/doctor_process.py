"""Some of the doctor's checks in a child process, each finding told as it comes; it can be ended at any moment.

The hub may take its time to answer, and torch its time to be imported: whoever asks must be able to leave.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from dataclasses import asdict
from types import TracebackType

from dpo_tui.child_environment import child_environment
from dpo_tui.hardware import nvml
from dpo_tui.hardware.doctor import Box, Circumstances, Finding, findings, finish_stack, start_stack
from dpo_tui.hardware.profiles import main_memory

STACK = frozenset({"torch", "device_support", "bitsandbytes"})
"""Checks that wait for torch to be imported."""
HUB = frozenset({"hub_access"})
"""Checks that wait for the network."""


class DoctorProcess:
    """An examination as a child process. Use it as a context manager, or call :meth:`cancel`.

    Args:
        circumstances: what the person wants to do.
        names: of the check functions to run.
    """

    def __init__(self, circumstances: Circumstances, names: Collection[str]) -> None:
        request = json.dumps({"circumstances": asdict(circumstances), "names": sorted(names)})
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "dpo_tui.hardware.doctor_process", request],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
            start_new_session=True,
        )

    def findings(self) -> Iterator[Finding]:
        """Every finding, as it comes; the last one says so if the child ended early."""
        assert self._process.stdout is not None  # noqa: S101 (asked for in the constructor)
        with self._process.stdout as lines:
            for line in lines:
                yield Finding(**json.loads(line))
        if code := self._process.wait():
            yield Finding("doctor", "warn", f"the examination ended early (exit {code})", "dpo-tui doctor")

    def cancel(self) -> None:
        """End the child and what it started; nothing happens if it has ended."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> "DoctorProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()


def in_turn(circumstances: Circumstances, names: Collection[str]) -> Iterator[Finding]:
    """Run checks: what is known at once first, then what torch says, and the hub at last."""
    wanted = frozenset(names)
    child = start_stack() if wanted & STACK else None
    inventory, ram = nvml.read(), main_memory()
    yield from findings(Box(inventory, ram, os.environ, circumstances), wanted - STACK - HUB)
    if wanted & STACK:
        stack, fault = finish_stack(child, lambda words: None)
        yield from findings(Box(inventory, ram, os.environ, circumstances, stack, fault), wanted & STACK)
    yield from findings(Box(inventory, ram, os.environ, circumstances), wanted & HUB)


def main() -> None:
    """The child: a request in its argument, a line of JSON for each finding."""
    request = json.loads(sys.argv[1])
    # What libraries print goes to stderr, so that stdout carries findings only.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        for finding in in_turn(Circumstances(**request["circumstances"]), request["names"]):
            out.write(json.dumps(asdict(finding)) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
