"""The figures of the report, all from the improvement's files and its runs: ``report.json``."""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dpo_tui import __version__
from dpo_tui.errors import RunError
from dpo_tui.improve.answer_files import read_answers
from dpo_tui.improve.drift_warnings import drift_warnings
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_plan import ImprovementPlan
from dpo_tui.improve.improvement_state import ImprovementState
from dpo_tui.improve.improvement_store import read_prompts
from dpo_tui.improve.person_verdicts import calibration_of
from dpo_tui.improve.round_figures import round_figures, start_features
from dpo_tui.improve.round_result import read_counts, read_result
from dpo_tui.improve.usage_meter import sampled_tokens
from dpo_tui.judging.judges.program_judge import shown_command

_SAMPLES = 5
"""Held-out prompts whose answers before and after are shown."""


def report_figures(folder: ImprovementFolder, plan: ImprovementPlan, state: ImprovementState) -> dict[str, Any]:
    """Return everything that the report says.

    Raises:
        RunError: the prompts cannot be read.
    """
    prompts = read_prompts(folder)
    start = start_features(folder)
    start_document = start.to_dict() if start else None
    rounds = [round_figures(folder, plan, number) for number in complete_rounds(folder, plan)]
    for one in rounds:
        one["warnings"] = drift_warnings(start_document, one)
        one["pairs_sha256"] = _sha256(folder.round(one["number"]).pairs)
    return {
        "id": folder.id,
        "version": __version__,
        "plan": _plan(plan),
        "status": state.status,
        "reason": state.reason,
        "stop": state.stop,
        "prompts": {
            "training": sum(not one.held_out for one in prompts),
            "held_out": sum(one.held_out for one in prompts),
            "shared": len(
                {one.id for one in prompts if one.held_out} & {one.id for one in prompts if not one.held_out}
            ),
        },
        "start": start_document,
        "rounds": rounds,
        "unfinished": _unfinished(folder, len(rounds) + 1),
        "calibration": _calibration(folder, plan),
        "samples": samples_after(folder, rounds[-1]["number"], rounds[-1]["run"]) if rounds else [],
        "cost": {
            "seconds": state.seconds,
            "hours": state.hours,
            "sampled_tokens": sampled_tokens(folder),
            "joules": state.joules,
            "unmetered_seconds": state.unmetered_seconds,
        },
        "files": {
            "prompts_sha256": _sha256(folder.prompts),
            "config_sha256": _sha256(folder.config),
        },
    }


def complete_rounds(folder: ImprovementFolder, plan: ImprovementPlan) -> list[int]:
    """Numbers of the rounds that are complete."""
    found = []
    for number in range(1, plan.rounds + 1):
        if read_result(folder.round(number)) is None:
            break
        found.append(number)
    return found


def _plan(plan: ImprovementPlan) -> dict[str, Any]:
    """The plan for a report, which is shown to others: without arguments of programs, which may be secret."""
    hidden: dict[str, str] = {}
    for choice in (plan.judge, plan.second_judge or {}):
        if choice.get("kind") == "program":
            command = str(choice.get("target"))
            shown = shown_command(command)
            hidden[command] = shown if shown == command else f"{shown} …"

    def without(choice: dict[str, Any] | None) -> dict[str, Any] | None:
        target = choice.get("target") if choice else None
        return choice and choice | {"target": hidden.get(str(target), target)}

    argv = [_without_arguments(word, hidden) for word in plan.argv]
    return plan.to_dict() | {"judge": without(plan.judge), "second_judge": without(plan.second_judge), "argv": argv}


def _without_arguments(word: str, hidden: dict[str, str]) -> str:
    """A word of the command line that asked; ``--judge-command=…`` is one word."""
    option, equals, value = word.partition("=")
    if option.startswith("--") and value in hidden:
        return f"{option}{equals}{hidden[value]}"
    return hidden.get(word, word)


def _unfinished(folder: ImprovementFolder, number: int) -> dict[str, Any] | None:
    """The counts of the round after the last complete one, where it came as far as its pairs."""
    counts = read_counts(folder.round(number))
    return {"number": number, "counts": counts} if counts else None


def _calibration(folder: ImprovementFolder, plan: ImprovementPlan) -> dict[str, Any] | None:
    found = calibration_of(folder, plan)
    if found is None:
        return None
    interval = list(found.interval) if found.interval else None
    return {**asdict(found), "interval": interval, "summary": found.summary()}


def samples_after(folder: ImprovementFolder, number: int, run: str, count: int = _SAMPLES) -> list[dict[str, str]]:
    """Held-out prompts with the start model's answers and a round's, as ``prompt``, ``before`` and ``after``.

    Raises:
        RunError: the prompts cannot be read.
    """
    before = {one.id: one.text for one in read_answers(folder.start_answers)}
    after = {one.id: one.text for one in read_answers(folder.round(number).held_out_answers(run))}
    prompts = [one for one in read_prompts(folder) if one.held_out and one.id in before and one.id in after]
    return [
        {"prompt": str(one.messages[-1].get("content", "")), "before": before[one.id], "after": after[one.id]}
        for one in prompts[:count]
    ]


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error
