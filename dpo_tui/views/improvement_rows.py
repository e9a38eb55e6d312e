"""Improvements as rows of the list of runs, with the groups of their rounds and the runs of these below them."""

from collections.abc import Sequence
from functools import lru_cache

from dpo_tui.errors import RunError
from dpo_tui.groups.group_requests import STOP, is_requested
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_status import ImprovementStatus, improvement_status
from dpo_tui.improve.improvement_store import all_improvements, improvement_name
from dpo_tui.improve.person_verdicts import PERSON, WAITING, asked_pairs
from dpo_tui.improve.report.report_figures import complete_rounds
from dpo_tui.improve.report.report_markdown import rate_text
from dpo_tui.improve.round_figures import win_figures
from dpo_tui.improve.round_verdicts import AGAINST_START, win_rate
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.runs.status_names import UNKNOWN
from dpo_tui.views.group_row import IMPROVEMENT, RunGroup


def with_improvements(groups: Sequence[RunGroup]) -> list[RunGroup]:
    """Put the groups of rounds into a row for each improvement; reads files, so call it from a thread.

    Args:
        groups: all groups. One whose improvement is gone stays a row of its own.

    Returns:
        Newest first.

    Raises:
        HomeError: the improvements cannot be listed.
    """
    folders = all_improvements()
    known = {folder.id for folder in folders}
    own = {folder.id: [one for one in groups if one.part_of and one.part_of[0] == folder.id] for folder in folders}
    rest = [one for one in groups if one.part_of is None or one.part_of[0] not in known]
    found = [*rest, *(_row(folder, own[folder.id]) for folder in folders)]
    return sorted(found, key=lambda group: group.key, reverse=True)


def shown_status(folder: ImprovementFolder, status: ImprovementStatus) -> str:
    """The status as a screen shows it: one that was asked to stop is ``stopping`` until it has."""
    return "stopping" if status.live and is_requested(folder, STOP) else status.status


def step_text(status: ImprovementStatus) -> str:
    """What an improvement does now: ``round 2 of 3 · training 12 of 40``; empty where it does nothing."""
    if not status.live:
        return ""
    state, rounds = status.state, status.plan.rounds
    step = state.step.partition(": ")[2] or state.step
    if step == WAITING:
        step = ""  # how many wait is said by itself
    share = f" {state.done} of {state.total}" if state.total and step else ""
    parts = [f"round {state.round} of {rounds}" if state.round else "", f"{step}{share}"]
    return " · ".join(filter(None, parts)) or "starting"


def waiting_for_person(folder: ImprovementFolder, status: ImprovementStatus) -> int:
    """How many verdicts a round waits for; 0 where none of a person does.

    Raises:
        RunError: the prompts cannot be read.
    """
    if status.plan.judge.get("kind") != PERSON or not status.live:
        return 0
    return len(asked_pairs(folder, status.plan))


def _row(folder: ImprovementFolder, rounds: Sequence[RunGroup]) -> RunGroup:
    ordered = sorted(rounds, key=lambda one: (one.part_of or ("", 0))[1])
    runs = tuple(run for group in ordered for run in group.runs)
    try:
        status = improvement_status(folder)
        waiting = waiting_for_person(folder, status)
    except RunError as error:
        name = improvement_name(folder) or folder.id
        return RunGroup(folder.id, name, IMPROVEMENT, UNKNOWN, error.message, runs, folder)
    complete = complete_rounds(folder, status.plan)
    rate = _last_win_rate(folder, complete[-1]) if complete else ""
    reason = "" if status.live or status.status == "done" else status.reason.partition("\n")[0]
    ended = f"{len(complete)} of {status.plan.rounds} rounds" if not status.live else ""
    stop = f"ended by: {status.state.stop}" if status.status == "done" and status.state.stop else ""
    parts = (f"{waiting} waiting for you" if waiting else "", reason, step_text(status), ended, rate, stop)
    fraction = 1.0 if status.status == "done" else len(complete) / status.plan.rounds
    note = " · ".join(filter(None, parts))
    return RunGroup(
        folder.id, status.plan.name, IMPROVEMENT, shown_status(folder, status), note, runs, folder, fraction
    )


@lru_cache(maxsize=1024)
def _last_win_rate(folder: ImprovementFolder, number: int) -> str:
    """The win rate of a complete round over the start model: its files do not change any more."""
    files = folder.round(number)
    run = str((read_json(files.result) or {}).get("run"))
    wins = win_figures(win_rate(files, run, AGAINST_START))
    return f"wins {rate_text(wins)}" if wins["interval"] else "no verdict for either side"
