"""The launchers by name; a new one is one more row. Standard library only."""

from importlib import import_module
from typing import cast

from dpo_tui.errors import RunError
from dpo_tui.runs.launchers.launcher import Launcher
from dpo_tui.runs.state import State

LAUNCHERS = {
    "local": "dpo_tui.runs.launchers.local:LocalLauncher",
    "torchrun": "dpo_tui.runs.launchers.torchrun:TorchrunLauncher",
    "slurm": "dpo_tui.runs.launchers.slurm:SlurmLauncher",
}
"""Name in state.json -> module and class; the module is imported when a run needs it."""


def launcher(name: str) -> Launcher:
    """The launcher of this name.

    Raises:
        RunError: there is none, as for a run that a newer dpo-tui made.
    """
    if name not in LAUNCHERS:
        raise RunError(
            f"there is no launcher {name!r}; this dpo-tui has {', '.join(LAUNCHERS)}",
            hint="Update dpo-tui, or look at the run with the version that made it.",
        )
    module, _, kind = LAUNCHERS[name].partition(":")
    return cast(Launcher, getattr(import_module(module), kind)())


def launcher_of(state: State) -> Launcher:
    """The launcher that a run was made for.

    Raises:
        RunError: there is no such launcher; the run is named.
    """
    try:
        return launcher(state.launcher)
    except RunError as error:
        raise RunError(f"run {state.id}: {error.message}", hint=error.hint) from None
