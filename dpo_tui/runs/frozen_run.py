"""What a run is made of, once everything about it has been checked: enough to make it now or later.

`dpo_tui.start.prepare` freezes a run, and makes it at once; a group keeps the frozen runs of its members until their
turn comes, so that its driver needs no config, data or driver of the GPUs. Standard library only.
"""

from dataclasses import dataclass, field
from typing import Any

from dpo_tui.runs import naming, store
from dpo_tui.runs.atomic_files import write_json_atomic
from dpo_tui.runs.devices import DeviceRequest
from dpo_tui.runs.folder import RunFolder


@dataclass(frozen=True)
class FrozenRun:
    """A run that can be made.

    Args:
        config_toml: the fully resolved config.
        devices: devices that it names, such as ``gpu:0``.
        device_request: candidates to choose from when its turn comes, instead of ``devices``.
        python: the interpreter that its worker needs; None for that of the process that starts it.
        launcher: how its worker starts, a name in `dpo_tui.runs.launchers.registry`.
        ranks: number of processes that train together.
        estimated_gb: memory by part, in decimal gigabytes; empty where it is not known.
    """

    config_toml: str
    devices: tuple[str, ...] = ()
    device_request: DeviceRequest | None = None
    python: str | None = None
    launcher: str = "local"
    ranks: int = 1
    estimated_gb: dict[str, float] = field(default_factory=dict)


def create_frozen(
    frozen: FrozenRun, name: str, *, after: str | None = None, group: dict[str, Any] | None = None
) -> RunFolder:
    """Make the run's folder; nothing starts yet.

    Args:
        frozen: the run.
        name: what to call it; it gets a number where another run has the name.
        after: id of a run that must end first.
        group: the group that it is a member of, as in `dpo_tui.runs.state.State`.

    Raises:
        HomeError: the home folder cannot be written.
    """
    folder = store.create(
        frozen.config_toml,
        name=naming.numbered(name, {store.name_of(run) for run in store.all_runs()}),
        devices=list(frozen.devices),
        device_request=frozen.device_request,
        after=after,
        python=frozen.python,
        launcher=frozen.launcher,
        ranks=frozen.ranks,
        group=group,
    )
    if frozen.estimated_gb:
        write_json_atomic(folder.estimate, frozen.estimated_gb)
    return folder
