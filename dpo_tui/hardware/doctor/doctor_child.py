"""Some of the doctor's checks in a child process, each finding told as it comes; it can be ended at any moment.

The hub may take its time to answer, and torch its time to be imported: whoever asks must be able to leave.
"""

import json
import os
import sys
from collections.abc import Collection, Iterator
from dataclasses import asdict

from dpo_tui.hardware import nvml
from dpo_tui.hardware.doctor.registry import (
    DoctorFinding,
    DoctorOptions,
    MachineFacts,
    collect_stack_report,
    findings,
    start_stack_report,
)
from dpo_tui.hardware.profiles import main_memory
from dpo_tui.processes.json_child import ChildError, JsonChild

STACK = frozenset({"torch", "device_support", "bitsandbytes"})
"""Checks that wait for torch to be imported."""
HUB = frozenset({"hub_access"})
"""Checks that wait for the network."""


class DoctorProcess(JsonChild):
    """An examination as a child process; leaving the context, or :meth:`close`, ends it and what it started.

    Args:
        options: what the person wants to do.
        names: of the check functions to run.
    """

    def __init__(self, options: DoctorOptions, names: Collection[str]) -> None:
        super().__init__("dpo_tui.hardware.doctor.doctor_child", "the examination")
        self.send({"circumstances": asdict(options), "names": sorted(names)})

    def findings(self) -> Iterator[DoctorFinding]:
        """Every finding, as it comes; the last one says so if the child ended early."""
        try:
            for message in self.messages():
                yield DoctorFinding(**message)
            ended = self.died() if self.wait() else None
        except ChildError as error:
            ended = error
        if ended is not None:
            yield DoctorFinding("doctor", "warn", ended.message, "dpo-tui doctor")


def in_turn(options: DoctorOptions, names: Collection[str]) -> Iterator[DoctorFinding]:
    """Run checks: what is known at once first, then what torch says, and the hub at last."""
    wanted = frozenset(names)
    child = start_stack_report() if wanted & STACK else None
    inventory, ram = nvml.read(), main_memory()
    yield from findings(MachineFacts(inventory, ram, os.environ, options), wanted - STACK - HUB)
    if wanted & STACK:
        stack, fault = collect_stack_report(child, lambda words: None)
        yield from findings(MachineFacts(inventory, ram, os.environ, options, stack, fault), wanted & STACK)
    yield from findings(MachineFacts(inventory, ram, os.environ, options), wanted & HUB)


def main() -> None:
    """The child: a request as a line on stdin, a line of JSON for each finding."""
    request = json.loads(sys.stdin.readline())
    # What libraries print goes to stderr, so that stdout carries findings only.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        for finding in in_turn(DoctorOptions(**request["circumstances"]), request["names"]):
            out.write(json.dumps(asdict(finding)) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
