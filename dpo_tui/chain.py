"""Stages that go on from one another: SFT, then DPO from the SFT model.

A config names the model it goes on from as ``"previous"``, the run before it in one ``dpo-tui train`` command, or as
``"run:ID"``, any run that is done. Either way the frozen config of the new run names a folder: ``merged/`` of the
earlier run, in which an adapter has been merged into its base. So DPO's reference is the model that it starts from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dpo_tui.config.files import LoadedConfig, load, with_changes
from dpo_tui.config.schema import Config
from dpo_tui.errors import RunError, UsageError
from dpo_tui.prepare import Prepared, create_run, prepare
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.torch_tool import Message, run_tool

PREVIOUS = "previous"
RUN = "run:"

Tell = Callable[[Message], None]


@dataclass(frozen=True)
class Stage:
    """One run of a command, checked.

    Attributes:
        prepared: ready to start; of a stage that goes on from the previous one, with that one's own model in its place.
        goes_on: whether it goes on from the previous one.
    """

    prepared: Prepared
    goes_on: bool


def prepare_stages(
    loaded: Sequence[LoadedConfig], name: str | None = None, tell: Tell = lambda message: None
) -> list[Stage]:
    """Check the configs of one command.

    Args:
        loaded: in the order in which they are to run.
        name: of the run, if it is one.
        tell: how a merge goes, where an earlier run has only its adapter.

    Raises:
        UsageError: the first config goes on from a previous one.
        RunNotFoundError: a config goes on from a run that is not there.
        RunError: … or from one that has no result.
        ConfigError: see `prepare`.
        DataError: see `prepare`.
    """
    stages: list[Stage] = []
    for one in loaded:
        goes_on = one.config.model_name == PREVIOUS
        if goes_on and not stages:
            raise UsageError(
                f'model_name = "{PREVIOUS}": there is no config before this one',
                hint='give both: dpo-tui train sft.toml dpo.toml; or name a run that is done: model_name = "run:ID"',
            )
        changes = {}
        if goes_on:
            # Their shape is the same, and that is what the checks and the estimate need.
            changes = {"model_name": stages[-1].prepared.config.model_name, "model_revision": None}
        elif one.config.model_name.startswith(RUN):
            changes = {"model_name": model_of(one.config.model_name, tell), "model_revision": None}
        stages.append(Stage(prepare(with_changes(one, changes, one.origin("model_name")), name), goes_on))
    return stages


def create_stages(stages: Sequence[Stage]) -> list[RunFolder]:
    """Make the runs' folders, each to start after the one before it; nothing starts yet."""
    folders: list[RunFolder] = []
    for place, stage in enumerate(stages):
        config = stage.prepared.config
        followed = place + 1 < len(stages) and stages[place + 1].goes_on
        if followed and config.use_lora:
            config = _changed(config, merge_at_end=True)
        if stage.goes_on:
            config = _changed(config, model_name=str(folders[-1].merged), model_revision=None)
        folders.append(create_run(replace(stage.prepared, config=config), after=folders[-1].id if folders else None))
    return folders


def model_of(name: str, tell: Tell = lambda message: None) -> str:
    """Return the folder of the whole model that ``run:KEY`` means; merge it first where only its adapter is there.

    Raises:
        RunNotFoundError: there is no such run.
        RunError: it has no result.
        ToolError: it cannot be merged.
    """
    folder = store.find(name.removeprefix(RUN))
    if not folder.merged.is_dir():
        if not folder.adapter.is_dir():
            raise RunError(
                f"model_name = {name}: run {folder.id} has no result to go on from",
                hint=f"See how it goes: dpo-tui status {folder.id}",
            )
        tell({"kind": "progress", "message": f"Merging the adapter of run {folder.id} into its base"})
        run_tool("merge_run", {"run": str(folder.path)}, tell)
    return str(folder.merged)


def shape_of(name: str) -> tuple[str, str | None]:
    """Return a model of the shape that ``run:KEY`` has, and its revision: the one which that run was trained from.

    Raises:
        UsageError: ``previous`` alone says nothing about a shape.
        RunNotFoundError: there is no such run.
    """
    if name == PREVIOUS:
        raise UsageError(
            f'model_name = "{PREVIOUS}": one config alone does not say which model that is',
            hint="name the model of the config before it: --set model_name=MODEL",
        )
    config = load(store.find(name.removeprefix(RUN)).config).config
    return config.model_name, config.model_revision


def _changed(config: Config, **changes: object) -> Config:
    return config.model_copy(update=changes)
