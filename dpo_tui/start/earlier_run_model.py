"""Stages: a config whose ``model_name`` is the model of an earlier run, ``"previous"`` or ``"run:ID"``.

``"previous"`` is the run before it in one ``dpo-tui train`` command, ``"run:ID"`` any run that is done. Either way the
frozen config of the new run names a folder: ``merged/`` of the earlier run, in which an adapter has been merged into
its base. So DPO's reference is the model that it starts from.
"""

import threading
from collections.abc import Callable

from dpo_tui.config.files import load
from dpo_tui.errors import RunError, UsageError
from dpo_tui.hardware.tool_gpu import tool_environment
from dpo_tui.processes.json_child import Message
from dpo_tui.processes.torch_tool import run_tool
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder

PREVIOUS = "previous"
RUN = "run:"

ProgressCallback = Callable[[Message], None]
"""Called with the messages of a merge: ``kind``, ``message``."""
_MERGING = threading.Lock()


def is_earlier_run(name: str) -> bool:
    """Whether a config's ``model_name`` means the model of an earlier run."""
    return name == PREVIOUS or name.startswith(RUN)


def model_of(name: str, report: ProgressCallback = lambda message: None, setting: str = "model_name") -> str:
    """Return the folder of the whole model that ``run:KEY`` means; merge it first where only its adapter is there.

    Raises:
        RunNotFoundError: there is no such run.
        RunError: it has no result.
        ChildError: it cannot be merged.
    """
    return merge_run(store.find(name.removeprefix(RUN)), report, setting)


def merge_run(folder: RunFolder, report: ProgressCallback, setting: str = "model_name") -> str:
    """Return the folder of the whole model of a run; merge it first where only its adapter is there.

    Raises:
        RunError: the run has no result, or is of a newer version.
        ChildError: it cannot be merged.
    """
    # The app checks in one thread and starts in another: both may need the same merge, and two would write one folder.
    with _MERGING:
        _merge(folder, report, setting)
    return str(folder.merged)


def _merge(folder: RunFolder, report: ProgressCallback, setting: str) -> None:
    store.require_known_version(folder)
    if not folder.merged.is_dir():
        if not folder.adapter.is_dir():
            raise RunError(
                f"{setting} = {RUN}{folder.id}: the run has no result to go on from",
                hint=f"See how it goes: dpo-tui status {folder.id}",
            )
        report({"kind": "progress", "message": f"Merging the adapter of run {folder.id} into its base"})
        run_tool("merge", {"run": str(folder.path)}, report, environment=tool_environment())


def shape_of(name: str) -> tuple[str, str | None]:
    """Return the model that the run of ``run:KEY`` was trained from, and its revision: it has the same shape.

    Raises:
        UsageError: ``previous`` alone says nothing about a shape.
        RunNotFoundError: there is no such run.
    """
    if name == PREVIOUS:
        raise UsageError(
            f'model_name = "{PREVIOUS}": one config alone does not say which model that is',
            hint="name the model of the config before it: --set model_name=MODEL",
        )
    folder = store.find(name.removeprefix(RUN))
    store.require_known_version(folder)
    config = load(folder.config).config
    return config.model_name, config.model_revision
