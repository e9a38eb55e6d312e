"""The training of a round: a group of runs, one for each combination of its sweep, on the round's pairs."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dpo_tui.config.files import LoadedConfig, with_changes
from dpo_tui.errors import RunError
from dpo_tui.groups.group_control import resume_group, start_group, stop_group
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_plan import read_plan
from dpo_tui.groups.group_status import GroupStatus, group_status
from dpo_tui.groups.group_store import all_groups, create_group
from dpo_tui.groups.sweep import Sweep, prepare_combinations
from dpo_tui.groups.sweep_values import label
from dpo_tui.improve.improvement_plan import START
from dpo_tui.improve.rounds.round_work import RoundWork
from dpo_tui.processes.json_child import Message
from dpo_tui.runs.folder import RunFolder
from dpo_tui.strategies.registry import strategy_of

KIND = "round"
"""The kind of the groups that rounds make."""
_MOST_RESUMES = 10
"""How often the driver of a group is started again; one that ends at once would else be started for ever."""
_POLL = 0.5
"""Seconds between two looks at the group."""


class TrainingStoppedError(RunError):
    """Somebody stopped the training of a round by itself."""


def train_round(work: RoundWork, number: int) -> list[RunFolder]:
    """Train on a round's pairs, or go on with that; return the runs that are done, in the order of their members.

    Raises:
        RunError: no run of it has a result.
        TrainingStoppedError: it was stopped.
        ConfigError: the config cannot train on the pairs.
        DataError: the pairs cannot be trained on.
    """
    step = f"round {number}: training"
    work.progress(step, 0, 0)
    group = group_of(work.folder.id, number)
    if group is None:
        group = _create(work, number)
        start_group(group)
    elif (status := group_status(group)).over and not _has_result(status):
        resume_group(group)
    try:
        status = _wait(work, group, step)
    except BaseException:
        _stop(group)
        raise
    done = [one.run for one in status.members if one.status == "done" and one.run is not None]
    if done:
        return done
    if status.status == "stopped" or all(one.status == "stopped" for one in status.members):
        raise TrainingStoppedError(f"the training of round {number} was stopped: {status.reason or 'by request'}")
    reasons = [one.reason for one in status.members if one.failed and one.reason]
    raise RunError(
        f"the training of round {number} failed: {(reasons or [status.reason])[0]}",
        hint=f"dpo-tui status {group.id} says more; `dpo-tui resume {work.folder.id}` tries it again",
    )


def group_of(improvement: str, number: int) -> GroupFolder | None:
    """The group of a round's training; None before there is one.

    It is found by what the group's own plan says: a driver that was killed after making the group finds it again.
    """
    for group in all_groups():
        try:
            plan = read_plan(group)
        except RunError:
            continue
        if plan.part_of == {"improvement": improvement, "round": number}:
            return group
    return None


def combinations_without_result(group: GroupFolder) -> dict[str, str]:
    """Say which combinations of a round's sweep have no result, each with the reason: the others go on without them."""
    missing = [one for one in group_status(group).members if one.status != "done"]
    return {label(one.member.values) or one.member.name: one.reason or one.status for one in missing}


def round_changes(work: RoundWork, number: int, config: LoadedConfig) -> dict[str, Any]:
    """The settings of a round's training that follow from the round."""
    before = work.run_before(number)
    changes: dict[str, Any] = {"name": f"{work.plan.name}-r{number}"}
    if before is not None:
        changes |= {"model_name": f"run:{before.id}", "model_revision": None}
        if work.plan.reference == START and strategy_of(config.config).has_reference:
            changes |= {"ref_model": work.plan.model, "ref_model_revision": config.config.model_revision}
    return changes


def _create(work: RoundWork, number: int) -> GroupFolder:
    loaded = work.config(str(work.folder.round(number).pairs))
    changes = round_changes(work, number, loaded)

    def read(values: dict[str, Any]) -> LoadedConfig:
        return with_changes(loaded, changes | values, "command line")

    ready = prepare_combinations(
        read,
        Sweep({name: tuple(values) for name, values in work.plan.sweep.items()}),
        source=f"round {number} of {work.plan.name}",
        name=str(changes["name"]),
        argv=work.plan.argv,
        report=_reporting(work, number),
    )
    plan = replace(ready.plan, kind=KIND, part_of={"improvement": work.folder.id, "round": number})
    return create_group(plan, ready.configs)


def _reporting(work: RoundWork, number: int) -> Callable[[Message], None]:
    return lambda message: work.progress(f"round {number}: {str(message['message'])[:80]}", 0, 0)


def _wait(work: RoundWork, group: GroupFolder, step: str) -> GroupStatus:
    """Wait until a group is over; a driver of it that was killed is started again, as often as somebody may kill it.

    Raises:
        RunError: its driver ends again and again.
    """
    resumed = 0
    while True:
        status = group_status(group)
        if status.status == "lost":
            resumed += 1
            if resumed > _MOST_RESUMES:
                raise RunError(f"group {group.id}: its driver ended {resumed} times: {status.reason}")
            resume_group(group)
        elif status.over:
            return status
        steps = [(one.run, one.live) for one in status.members if one.run is not None]
        work.progress(step, *_steps([run for run, live in steps if live]))
        time.sleep(_POLL)


def _steps(runs: list[RunFolder]) -> tuple[int, int]:
    """How many optimizer steps the live runs have done, of how many."""
    from dpo_tui.runs.atomic_files import read_json

    done = total = 0
    for run in runs:
        progress = read_json(run.progress) or {}
        step, steps = progress.get("step"), progress.get("max_steps")
        if isinstance(step, int) and isinstance(steps, int):
            done, total = done + step, total + steps
    return done, total


def _has_result(status: GroupStatus) -> bool:
    return any(one.status == "done" for one in status.members)


def _stop(group: GroupFolder) -> None:
    """Stop a group whose improvement is interrupted; each run saves a checkpoint, from which a resume goes on."""
    try:
        stop_group(group)
    except RunError:
        return  # it has ended
