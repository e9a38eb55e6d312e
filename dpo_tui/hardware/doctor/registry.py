"""What is wrong with this machine, and the command that mends it.

A check is one small function of a :class:`MachineFacts` that returns a :class:`DoctorFinding`, or None where it has nothing to say;
the next one is one more function under ``@check``. Facts are gathered once, before the checks; torch is asked in a
child process, which may take its time without holding up the rest.
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


@dataclass(frozen=True)
class DoctorFinding:
    """The result of one check: what was found, what it means, and the command or step that mends it."""

    check: str
    status: Status
    message: str
    fix: str = ""


@dataclass(frozen=True)
class DoctorOptions:
    """What the person wants to do, as far as it changes the checks.

    Attributes:
        model: a hub id whose access is to be checked; None asks the hub nothing.
        provider: "huggingface" or "unsloth".
    """

    model: str | None = None
    provider: str = "huggingface"


@dataclass(frozen=True)
class MachineFacts:
    """The facts that checks look at.

    Attributes:
        stack: what ``dpo_tui.train.tools.stack_report`` reported; empty when it did not answer.
        stack_fault: why it did not.
    """

    inventory: Inventory
    ram: Ram
    environ: Mapping[str, str]
    options: DoctorOptions = field(default_factory=DoctorOptions)
    stack: Mapping[str, Any] = field(default_factory=dict)
    stack_fault: str = ""


Check = Callable[[MachineFacts], DoctorFinding | None]
CHECKS: list[Check] = []
_MODULES = ("software", "gpu", "machine", "login_session")


def check(function: Check) -> Check:
    """Register a check; they run in the order in which they are registered."""
    CHECKS.append(function)
    return function


def run_doctor(options: DoctorOptions, progress: Progress | None = None) -> list[DoctorFinding]:
    """Run every check.

    Args:
        options: what the person wants to do.
        progress: told what is going on, in words.
    """
    tell = progress or (lambda words: None)
    child = start_stack_report()
    tell("Looking at the GPUs…")
    inventory, ram = nvml.read(), main_memory()
    stack, fault = collect_stack_report(child, tell)
    return run_checks(MachineFacts(inventory, ram, os.environ, options, stack, fault))


def run_checks(facts: MachineFacts) -> list[DoctorFinding]:
    """Run every check on given facts. A check that breaks is itself a finding: the others still answer."""
    return list(findings(facts))


def findings(facts: MachineFacts, names: Collection[str] | None = None) -> Iterator[DoctorFinding]:
    """Run checks on given facts, one by one.

    Args:
        facts: the facts.
        names: of the functions to run; None runs all.
    """
    for module in _MODULES:
        importlib.import_module(f"dpo_tui.hardware.doctor.{module}")
    for function in CHECKS:
        if names is not None and function.__name__ not in names:
            continue
        try:
            finding = function(facts)
        except Exception as error:
            words = f"could not be checked: {type(error).__name__}: {error}"
            finding = DoctorFinding(function.__name__.replace("_", "-"), "warn", words)
        if finding is not None:
            yield finding


def start_stack_report() -> JsonChild | None:
    """Ask torch and bitsandbytes about themselves, in a child; None where none can be started."""
    try:
        return JsonChild("dpo_tui.train.tools.stack_report", "importing torch")
    except ChildError:
        return None


def collect_stack_report(child: JsonChild | None, tell: Progress) -> tuple[Mapping[str, Any], str]:
    """Wait for that child, ten seconds at most; return what it reported, and why it reported nothing."""
    if child is None:
        return {}, "Python could not be started"
    found: dict[str, Any] = {}
    began = time.monotonic()
    with child:
        reader = threading.Thread(target=_collect, args=(child, found), daemon=True, name="read-stack")
        reader.start()
        while (left := STACK_SECONDS - (time.monotonic() - began)) > 0:
            reader.join(min(2.0, left))
            if not reader.is_alive():
                return found, "" if found else child.died().message
            tell(f"Importing torch and bitsandbytes… {time.monotonic() - began:.0f} s")
        child.end()
        reader.join()
    return found, "" if found else f"torch was not imported within {STACK_SECONDS:.0f} s"


def _collect(child: JsonChild, found: dict[str, Any]) -> None:
    """Merge a child's messages into one mapping."""
    with contextlib.suppress(ChildError):
        for message in child.messages():
            found.update(message)
