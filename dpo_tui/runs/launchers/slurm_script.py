"""The sbatch script of a run: what its config asks for, and the supervisor's command. Standard library only."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_tui import paths
from dpo_tui.errors import RunError
from dpo_tui.runs.folder import RunFolder

GRACE_VARIABLE = "DPO_TUI_SAVE_SECONDS"
"""Environment variable of the job: seconds between the signal before its time limit and the limit itself."""
REQUEUE_VARIABLE = "DPO_TUI_REQUEUE_LIMIT"
"""Environment variable of the job: how many times it may be queued again."""

# Setting, option of sbatch, and the variable of sbatch's environment that would win against the script.
_OPTIONS = (
    ("partition", "partition", "SBATCH_PARTITION"),
    ("account", "account", "SBATCH_ACCOUNT"),
    ("qos", "qos", "SBATCH_QOS"),
    ("time", "time", "SBATCH_TIMELIMIT"),
    ("gres", "gres", "SBATCH_GRES"),
    ("cpus_per_task", "cpus-per-task", "SBATCH_CPUS_PER_TASK"),
    ("mem", "mem", "SBATCH_MEM_PER_NODE"),
)
_ALWAYS_SET = (
    "SBATCH_ARRAY_INX",
    "SBATCH_EXPORT",
    "SBATCH_JOB_NAME",
    "SBATCH_NO_REQUEUE",
    "SBATCH_OPEN_MODE",
    "SBATCH_OUTPUT",
    "SBATCH_ERROR",
    "SBATCH_REQUEUE",
    "SBATCH_SIGNAL",
    "SBATCH_WAIT",
)
_REQUEUE_LIMIT = 5
_SAVE_SECONDS = 120


@dataclass(frozen=True)
class JobScript:
    """A script for sbatch.

    Args:
        text: the script.
        overridden: variables of sbatch's environment that would win against options of the script.
    """

    text: str
    overridden: frozenset[str]

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """An environment for sbatch in which nothing wins against the script."""
        return {name: value for name, value in environment.items() if name not in self.overridden}


def job_script(folder: RunFolder, settings: Mapping[str, Any], argv: list[str]) -> JobScript:
    """Make the script that submits a run.

    Args:
        folder: the run; Slurm appends what the job prints to its ``supervisor.log``.
        settings: of the run's config, by name.
        argv: the supervisor's command.

    Raises:
        RunError: a path or a value cannot be written into such a script.
    """
    limit = int(settings.get("requeue_limit", _REQUEUE_LIMIT))
    save_seconds = int(settings.get("save_seconds", _SAVE_SECONDS))
    nodes = int(settings.get("nodes") or 1)
    options = [
        ("job-name", f"dpo-tui-{folder.id}"),
        ("output", _quoted_path(folder.supervisor_output)),
        # A requeued job would truncate the file.
        ("open-mode", "append"),
        ("export", "ALL"),
        ("nodes", str(nodes)),
        ("ntasks", str(nodes)),
        *([("ntasks-per-node", "1")] if nodes > 1 else []),
        *((option, str(settings[name])) for name, option, _ in _OPTIONS if settings.get(name) is not None),
        # B: to the batch script alone, whose process the supervisor becomes by exec: the worker must be asked to save
        # by its supervisor, once, and not be ended by a signal that it does not know.
        ("signal", f"B:USR1@{save_seconds}"),
        ("requeue" if limit else "no-requeue", ""),
    ]
    lines = [
        "#!/bin/bash",
        f"# Run {folder.id} of dpo-tui. The supervisor runs in this job; it starts the worker and records its end.",
        *(_directive(name, value) for name, value in options),
        *(f"#SBATCH {one}" for one in _extra_options(settings)),
        "",
        f"export DPO_TUI_HOME={shlex.quote(str(paths.home()))}",
        f"export {GRACE_VARIABLE}={save_seconds} {REQUEUE_VARIABLE}={limit}",
        # exec: the supervisor takes the shell's place, and with it the signals that Slurm sends to the batch script.
        f"exec {shlex.join(argv)}",
    ]
    if any("\n" in line or "\r" in line for line in lines):
        raise RunError(f"run {folder.id}: a line feed in a path or a setting cannot go into a script for sbatch")
    won = {variable for name, _, variable in _OPTIONS if settings.get(name) is not None}
    return JobScript("\n".join(lines) + "\n", frozenset({*_ALWAYS_SET, *won}))


def _directive(name: str, value: str) -> str:
    return f"#SBATCH --{name}={value}" if value else f"#SBATCH --{name}"


def _extra_options(settings: Mapping[str, Any]) -> Iterator[str]:
    for one in settings.get("sbatch_options") or []:
        yield str(one)


def _quoted_path(path: Path) -> str:
    """A path as the value of an option of sbatch in a script, where ``%`` begins a pattern such as ``%j``."""
    text = str(path)
    if any(character in text for character in '"\\') or not text.isprintable():
        raise RunError(
            f"{text!r}: sbatch cannot write to a path with quotes, backslashes or control characters",
            hint="Set DPO_TUI_HOME to a folder without them.",
        )
    return f'"{text.replace("%", "%%")}"'
