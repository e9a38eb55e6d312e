"""A machine on which sweeps are started for real, with a stand-in worker and stand-in GPUs, from the command line."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_state import read_group_state
from dpo_tui.groups.group_status import GroupStatus, group_status
from dpo_tui.groups.group_store import all_groups
from dpo_tui.runs import run_lock
from tests.support.nvml_standin import machine
from tests.support.supervised_runs import until
from tests.support.sweep_worker import stand_in


@dataclass(frozen=True)
class Box:
    """A machine.

    Args:
        folder: the test's own; the config of all sweeps lies in it.
        home: the home folder.
        environment: of its commands.
    """

    folder: Path
    home: Path
    environment: dict[str, str]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command."""
        command = [sys.executable, "-c", "from dpo_tui.cli import main; main()", *arguments]
        return subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command; return its exit code, stdout and stderr."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def sweep(self, *options: str) -> GroupFolder:
        """Start a sweep in the background."""
        code, out, err = self.run("train", str(self.folder / "c.toml"), *options, "--detach")
        assert code == 0, err
        (group,) = [one for one in all_groups() if one.id == out.split()[-1]]
        return group

    def hold(self) -> None:
        """Let workers hold at their third step."""
        self.home.mkdir(exist_ok=True)
        (self.home / "hold").touch()

    def release(self) -> None:
        """Let all workers go on."""
        (self.home / "go").touch()


def box(folder: Path, home: Path, scenario: str, model: Path, pairs: Path, **settings: object) -> Box:
    """Make a machine with the GPUs of a scenario, or none for ``no-gpu``, and a config of the tiny model."""
    values = {"model_name": f'"{model}"', "dataset": f'"{pairs}"', "name": '"tiny"', "eval_split": 0.3} | settings
    values |= {"use_4bit": "false", "max_seq_length": 128, "kl_prompts": 0, "sample_prompts": 0}
    (folder / "c.toml").write_text("".join(f"{key} = {value}\n" for key, value in values.items()))
    environment = machine(scenario, folder, DPO_TUI_HOME=str(home), DPO_TUI_STOP_GRACE="0.5", COLUMNS="120")
    environment["PYTHONPATH"] = stand_in(folder / "site")
    return Box(folder, home, environment)


def over(group: GroupFolder) -> GroupStatus:
    """Wait until a group has ended and its driver has gone; return its status."""
    until(lambda: group_status(group).over and run_lock.owner(group.lock) is None, f"group {group.id} to end")
    return group_status(group)


def counted(group: GroupFolder, **counts: int) -> GroupStatus:
    """Wait until at least so many members have these statuses; return the group's status."""

    def enough() -> GroupStatus | None:
        status = group_status(group)
        return status if all(status.counts[name] >= count for name, count in counts.items()) else None

    found = until(enough, f"group {group.id}: {counts}")
    assert isinstance(found, GroupStatus)
    return found


def kill_driver(group: GroupFolder) -> None:
    """Kill a group's driver with SIGKILL."""
    pid = read_group_state(group).driver_pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: run_lock.owner(group.lock) is None, "the driver's end")


def kill_drivers() -> None:
    """Kill whatever drivers a test has left."""
    for group in all_groups():
        if pid := run_lock.owner(group.lock):
            os.kill(pid, signal.SIGKILL)
