"""Template of a launcher: copy to dpo_tui/runs/launchers/NAME.py and add a row to runs/launchers/registry.py.

A config may name it once its name is in config/sections/compute.py. What is not overridden stays as in the local
launcher. runs/launchers/launcher.py says what each method must do. Standard library only.
"""

from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers.launcher import Command
from dpo_tui.runs.launchers.local import LocalLauncher
from dpo_tui.runs.state import State


class NiceLauncher(LocalLauncher):
    """Runs the worker at a low priority for the processor."""

    def prepare(self, folder: RunFolder, state: State, worker_argv: list[str]) -> Command:
        """The worker's own command behind nice(1), which becomes it: pid and exit code stay the worker's."""
        command = super().prepare(folder, state, worker_argv)
        return Command(["nice", "-n", "10", *command.argv], command.environment)
