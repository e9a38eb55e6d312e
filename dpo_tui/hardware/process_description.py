"""Processes that hold GPU memory: the user and the command line of a pid that the driver reports."""

import re
from dataclasses import dataclass

import psutil

from dpo_tui.text.printable import printable

# Access tokens on command lines of other users must not be shown.
_SECRETS = re.compile(r"\b(hf_|sk-|wandb_v1_)[A-Za-z0-9_-]{8,}|(?<=token=)\S+|(?<=key=)\S+")
_COMMAND_WIDTH = 120


@dataclass(frozen=True)
class GpuProcess:
    """A process that holds memory on a GPU.

    Attributes:
        pid: of the process.
        memory: bytes; None where the driver does not report them.
        user: its owner; None where the process is in another container or must not be inspected.
        command: its command line, without access tokens, cut to 120 characters; None likewise.
        reason: why ``user`` and ``command`` are None.
    """

    pid: int
    memory: int | None
    user: str | None = None
    command: str | None = None
    reason: str | None = None


def describe(pid: int, memory: int | None) -> GpuProcess:
    """Look up the user and the command line of a pid; never raises."""
    try:
        process = psutil.Process(pid)
        user = _user(process)
        arguments = process.cmdline() or [process.name()]
    except psutil.NoSuchProcess:
        return GpuProcess(pid, memory, reason="not visible here: it ended, or it runs in another container")
    except (psutil.Error, OSError) as error:
        return GpuProcess(pid, memory, reason=f"no permission to look at it ({type(error).__name__})")
    command = _SECRETS.sub("…", printable(" ".join(arguments), single_line=True))
    return GpuProcess(pid, memory, user=user, command=command[:_COMMAND_WIDTH])


def _user(process: psutil.Process) -> str | None:
    try:
        return printable(process.username(), single_line=True)
    except (psutil.Error, OSError, KeyError):  # a uid without a name raises KeyError on some systems
        return None
