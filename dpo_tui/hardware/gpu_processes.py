"""Who holds GPU memory: a pid from the driver, made into a person and a program."""

import re
from dataclasses import dataclass

import psutil

from dpo_tui.text.printable import printable

# Hub tokens on somebody's command line are not ours to show.
_SECRETS = re.compile(r"\b(hf_|sk-|wandb_v1_)[A-Za-z0-9_-]{8,}|(?<=token=)\S+|(?<=key=)\S+")
_COMMAND_WIDTH = 120


@dataclass(frozen=True)
class GpuProcess:
    """A process that holds memory on a GPU.

    ``memory`` is in bytes and None where the driver does not tell; ``user`` and ``command`` are None where the process
    belongs to another container or may not be looked at, and ``reason`` says which.
    """

    pid: int
    memory: int | None
    user: str | None = None
    command: str | None = None
    reason: str | None = None


def describe(pid: int, memory: int | None) -> GpuProcess:
    """Find the user and the command of a pid."""
    try:
        process = psutil.Process(pid)
        user = _user(process)
        words = process.cmdline() or [process.name()]
    except psutil.NoSuchProcess:
        return GpuProcess(pid, memory, reason="not visible here: it ended, or it runs in another container")
    except (psutil.Error, OSError) as error:
        return GpuProcess(pid, memory, reason=f"no permission to look at it ({type(error).__name__})")
    command = _SECRETS.sub("…", printable(" ".join(words), single_line=True))
    return GpuProcess(pid, memory, user=user, command=command[:_COMMAND_WIDTH])


def _user(process: psutil.Process) -> str | None:
    try:
        return printable(process.username(), single_line=True)
    except (psutil.Error, OSError, KeyError):  # a uid without a name raises KeyError on some systems
        return None
