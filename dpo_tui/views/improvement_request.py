"""An improvement of the app: made of the plan of New, a file of prompts and a judge, and what would happen in words."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from dpo_tui.config.schema import Config
from dpo_tui.config.toml_text import to_toml
from dpo_tui.errors import UsageError
from dpo_tui.improve.new_improvement import ImprovementRequest, PreparedImprovement, prepare_improvement
from dpo_tui.improve.person_verdicts import PERSON
from dpo_tui.judging.judges.judge import JudgeChoice
from dpo_tui.paths import expanded
from dpo_tui.views.improvement_view import most_rounds
from dpo_tui.views.run_plan import RunPlan

_OF_DATA = frozenset({"dataset", "dataset_weights", "eval_dataset"})
"""Settings of a plan that name data: rounds make their own."""
_MOST_ROUNDS = 100


@dataclass(frozen=True)
class ImprovementForm:
    """What is typed to start an improvement.

    Attributes:
        model: a folder, a hub id, or ``run:ID``.
        prompts: the file of prompts.
        judge: the command of a program that scores answers; empty for the person themselves.
        rounds: how many at most, as typed.
    """

    model: str = ""
    prompts: str = ""
    judge: str = ""
    rounds: str = "3"


def prepared_from(form: ImprovementForm, plan: RunPlan) -> PreparedImprovement:
    """Check an improvement with the settings of a plan of New, without its data; nothing starts.

    Raises:
        UsageError: something is missing in the form.
        DpoTuiError: as `dpo_tui.improve.new_improvement.prepare_improvement` raises it.
    """
    for name, value in (("a model", form.model), ("a file of prompts", form.prompts)):
        if not value:
            raise UsageError(f"{name} is missing", hint="Fill it in, or press esc.")
    if not form.rounds.isdecimal() or not 1 <= int(form.rounds) <= _MOST_ROUNDS:
        raise UsageError(f"rounds = {form.rounds}: it must be a whole number from 1 to {_MOST_ROUNDS}")
    if plan.problems:
        raise UsageError(
            f"the settings in New are not valid: {plan.problems[0].message}", hint="Mend them there first."
        )
    loaded = plan.loaded()
    omit = frozenset(name for name in Config.model_fields if name not in loaded.origins) | _OF_DATA
    judge = JudgeChoice("program", form.judge) if form.judge else JudgeChoice(PERSON)
    with tempfile.TemporaryDirectory(prefix="dpo-tui-improve-") as folder:
        # Checked as a file, as the command does: the same refusals, and the same frozen config.
        config = Path(folder) / "settings-of-New.toml"
        config.write_text(to_toml(loaded.config, omit=omit), encoding="utf-8")
        ready = prepare_improvement(
            ImprovementRequest(
                config,
                expanded(form.prompts),
                judge,
                changes={"model_name": form.model},
                options={"rounds": int(form.rounds), "answers": 4 if form.judge else 2},
            )
        )
    source = str(plan.file) if plan.file is not None else "the app"
    return replace(ready, plan=replace(ready.plan, source=source))


def start_text(ready: PreparedImprovement) -> str:
    """What starting it would do, in words."""
    plan, prepared = ready.plan, ready.prepared
    held_out = sum(one.held_out for one in ready.prompts)
    training = len(ready.prompts) - held_out
    judge = (
        "You judge: rounds wait for your verdicts."
        if plan.judge["kind"] == PERSON
        else f"Judge: {plan.judge['target']}"
    )
    lines = [
        f"{training} prompts to train on, {held_out} held out to judge the results on.",
        f"{most_rounds(plan.rounds)} of {plan.answers} answers to each prompt ({training * plan.answers:,} a round).",
        judge,
        *(f"model: {note}" for note in prepared.model_notes),
        *(f"{found.severity}: {found.sentence}" for found in prepared.template),
        *(f"{advice.severity}: {advice.message}" for advice in prepared.advice),
        "It goes on in the background, stops by itself, and writes a report.",
    ]
    return "\n".join(lines)
