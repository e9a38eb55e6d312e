"""Registry of the doctor's checks: what is wrong with this machine, and the command that mends it.

A check is a function from :class:`MachineFacts` to a :class:`DoctorFinding`, or to None where it does not apply, under
``@check`` in one of the modules of `_MODULES`. The facts are read once, before the checks. Torch is imported in a child
process, at the same time as the other facts are read: the import takes seconds, and may hang or crash.
"""

import contextlib
import importlib
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dpo_tui.hardware import nvml
from dpo_tui.hardware.nvml import Inventory
from dpo_tui.hardware.profiles import Ram, main_memory
from dpo_tui.processes.json_child import ChildError, JsonChild

Status = Literal["ok", "warn", "fail"]
Progress = Callable[[str], None]
STACK_SECONDS = 10.0
"""Time within which the child has to import torch and bitsandbytes."""


@dataclass(frozen=True)
class DoctorFinding:
    """The result of one check.

    Attributes:
        check: its name.
        status: "fail" stops runs, "warn" slows or limits them.
        message: what was found and what it means.
        fix: the command or step that mends it; empty where there is none.
    """

    check: str
    status: Status
    message: str
    fix: str = ""


@dataclass(frozen=True)
class DoctorOptions:
    """What the user plans, as far as it changes the checks.

    Attributes:
        model: a hub id whose access is to be checked; None makes no request to the hub.
        provider: "huggingface" or "unsloth".
    """

    model: str | None = None
    provider: str = "huggingface"


@dataclass(frozen=True)
class MachineFacts:
    """The input of the checks.

    Attributes:
        inventory: the GPUs.
        ram: main memory.
        environ: environment variables.
        options: what the user plans.
        stack: report of ``dpo_tui.train.tools.stack_report``; empty when there is none.
        stack_fault: why there is none.
    """

    inventory: Inventory
    ram: Ram
    environ: Mapping[str, str]
    options: DoctorOptions = field(default_factory=DoctorOptions)
    stack: Mapping[str, Any] = field(default_factory=dict)
    stack_fault: str = ""


Check = Callable[[MachineFacts], DoctorFinding | None]
CHECKS: list[Check] = []
_MODULES = ("python_and_torch", "gpu", "machine", "cluster", "login_session")


def check(function: Check) -> Check:
    """Register a check; checks run in the order of registration."""
    CHECKS.append(function)
    return function


def run_doctor(options: DoctorOptions, progress: Progress | None = None) -> list[DoctorFinding]:
    """Run every check.

    Args:
        options: what the user plans.
        progress: called with a sentence for each step.
    """
    report = progress or (lambda message: None)
    child = start_stack_report()
    report("Looking at the GPUs…")
    inventory, ram = nvml.read(), main_memory()
    stack, fault = collect_stack_report(child, report)
    return run_checks(MachineFacts(inventory, ram, os.environ, options, stack, fault))


def run_checks(facts: MachineFacts) -> list[DoctorFinding]:
    """Run every check on given facts."""
    return list(iter_findings(facts))


def iter_findings(facts: MachineFacts, names: Collection[str] | None = None) -> Iterator[DoctorFinding]:
    """Run checks on given facts, one by one. A check that raises becomes a warning, and the others still run.

    Args:
        facts: of this machine.
        names: of the check functions to run; None runs all.
    """
    for module in _MODULES:
        importlib.import_module(f"dpo_tui.hardware.doctor.{module}")
    for function in CHECKS:
        if names is not None and function.__name__ not in names:
            continue
        try:
            finding = function(facts)
        except Exception as error:
            message = f"could not be checked: {type(error).__name__}: {error}"
            finding = DoctorFinding(function.__name__.replace("_", "-"), "warn", message)
        if finding is not None:
            yield finding


def start_stack_report() -> JsonChild | None:
    """Start the child process that imports torch and bitsandbytes; None where it cannot be started."""
    try:
        return JsonChild("dpo_tui.train.tools.stack_report", "importing torch")
    except ChildError:
        return None


def collect_stack_report(child: JsonChild | None, progress: Progress) -> tuple[Mapping[str, Any], str]:
    """Wait up to `STACK_SECONDS` for the child of `start_stack_report`.

    Args:
        child: the process; None where it could not be started.
        progress: called with a sentence every two seconds.

    Returns:
        Its report, and why it is empty.
    """
    if child is None:
        return {}, "Python could not be started"
    report: dict[str, Any] = {}
    began = time.monotonic()
    with child:
        # Reading blocks without a timeout, so it has a thread; ending the child ends the reading.
        reader = threading.Thread(target=_merge_messages, args=(child, report), daemon=True, name="read-stack")
        reader.start()
        while (left := STACK_SECONDS - (time.monotonic() - began)) > 0:
            reader.join(min(2.0, left))
            if not reader.is_alive():
                return report, "" if report else child.died().message
            progress(f"Importing torch and bitsandbytes… {time.monotonic() - began:.0f} s")
        child.end()
        reader.join()
    return report, "" if report else f"torch was not imported within {STACK_SECONDS:.0f} s"


def _merge_messages(child: JsonChild, report: dict[str, Any]) -> None:
    """Merge a child's messages into one report."""
    with contextlib.suppress(ChildError):
        for message in child.messages():
            report.update(message)
