"""The doctor as a child process: findings arrive one by one, and the process can be ended at any time.

Requests to the hub and the import of torch can take long, and the app must be able to leave the page meanwhile.
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
    iter_findings,
    start_stack_report,
)
from dpo_tui.hardware.profiles import main_memory
from dpo_tui.processes.json_child import ChildError, JsonChild

STACK = frozenset({"torch", "device_support", "bitsandbytes"})
"""Checks that wait for torch to be imported."""
HUB = frozenset({"hub_access"})
"""Checks that wait for the network."""


class DoctorProcess(JsonChild):
    """Checks in a child process; leaving the context, or :meth:`close`, ends it and the processes it started.

    Args:
        options: what the user plans.
        names: of the check functions to run.
    """

    def __init__(self, options: DoctorOptions, names: Collection[str]) -> None:
        super().__init__("dpo_tui.hardware.doctor.doctor_child", "the examination")
        self.send({"options": asdict(options), "names": sorted(names)})

    def findings(self) -> Iterator[DoctorFinding]:
        """Yield findings as they arrive; a child that ends early adds a finding that says so."""
        try:
            for message in self.messages():
                yield DoctorFinding(**message)
            ended = self.died() if self.wait() else None
        except ChildError as error:
            ended = error
        if ended is not None:
            yield DoctorFinding("doctor", "warn", ended.message, "dpo-tui doctor")


def findings_by_speed(options: DoctorOptions, names: Collection[str]) -> Iterator[DoctorFinding]:
    """Run checks by name: first those that need neither torch nor the network, then torch's, then the hub's."""
    wanted = frozenset(names)
    child = start_stack_report() if wanted & STACK else None
    inventory, ram = nvml.read(), main_memory()
    yield from iter_findings(MachineFacts(inventory, ram, os.environ, options), wanted - STACK - HUB)
    if wanted & STACK:
        stack, fault = collect_stack_report(child, lambda message: None)
        yield from iter_findings(MachineFacts(inventory, ram, os.environ, options, stack, fault), wanted & STACK)
    yield from iter_findings(MachineFacts(inventory, ram, os.environ, options), wanted & HUB)


def main() -> None:
    """Entry point of the child: a request as a line of JSON on stdin, a line of JSON on stdout for each finding."""
    request = json.loads(sys.stdin.readline())
    # Findings go to a copy of stdout; descriptor 1 becomes stderr, so that nothing libraries print mixes with them.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        for finding in findings_by_speed(DoctorOptions(**request["options"]), request["names"]):
            out.write(json.dumps(asdict(finding)) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
