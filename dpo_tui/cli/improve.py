"""`dpo-tui improve`: rounds of sampled answers, a judge's word, training and proof; start them and follow them."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from dpo_tui.cli.follow_improvement import follow_improvement
from dpo_tui.cli.judge_options import chosen_judge, judge_options
from dpo_tui.cli.output import is_terminal, narrate
from dpo_tui.cli.train_checks import narrate_checks
from dpo_tui.config.files import parse_assignment
from dpo_tui.errors import UsageError
from dpo_tui.groups.sweep import parse_sweep
from dpo_tui.improve.improvement_control import start_improvement
from dpo_tui.improve.improvement_plan import LAST, START
from dpo_tui.improve.improvement_store import create
from dpo_tui.improve.new_improvement import ImprovementRequest, PreparedImprovement, prepare_improvement
from dpo_tui.improve.person_verdicts import PERSON
from dpo_tui.judging.answer_sources.answer_source import AnswerSource
from dpo_tui.judging.judges.judge import JudgeChoice
from dpo_tui.processes.json_child import Message
from dpo_tui.text.printable import printable


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--prompts", required=True, type=click.Path(path_type=Path), help="One prompt a line, or JSON rows.")
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True, help="Rounds at most.")
@click.option("-n", "--answers", type=click.IntRange(2, 64), help="Answers to a prompt: 4, or 2 by hand.")
@click.option("--held-out", type=click.IntRange(min=1), help="Prompts to judge results on; a fifth when left out.")
@judge_options
@click.option("--by-hand", is_flag=True, help="Judge by hand: rounds wait for `dpo-tui judge` of the improvement.")
@click.option("--answers-from", metavar="URL", help="An endpoint that serves the start model answers; for one round.")
@click.option("--answers-model", metavar="NAME", help="What that endpoint calls the model.")
@click.option("--second-judge-command", metavar="COMMAND", help="Judge results by this program too, without a say.")
@click.option(
    "--judge-sees", type=click.IntRange(min=1), metavar="N", help="Cut answers to N characters for the judge."
)
@click.option(
    "--target", type=click.FloatRange(0, 1), help="Stop when this share is won over the start, surely (95 %)."
)
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="Stop after this much work.")
@click.option("--tokens", type=click.IntRange(min=1), help="Stop after this many sampled tokens.")
@click.option("--kl-limit", type=click.FloatRange(min=0, min_open=True), help="Stop beyond these nats per answer.")
@click.option(
    "--length-limit",
    type=click.FloatRange(min=1, min_open=True),
    default=2.0,
    show_default=True,
    help="Stop when answers become this many times longer or shorter.",
)
@click.option(
    "--reference",
    type=click.Choice([START, LAST]),
    default=START,
    show_default=True,
    help="Reference of later rounds: the start model, or the round before.",
)
@click.option("--margin", type=click.FloatRange(min=0), default=0.0, help="Least difference of scores in a pair.")
@click.option("--sweep", "sweeps", multiple=True, metavar="KEY=V,V…", help="Train each value in each round.")
@click.option("--temperature", type=click.FloatRange(0.01, 2), default=1.0, show_default=True)
@click.option("--top-p", type=click.FloatRange(0.01, 1), default=1.0, show_default=True)
@click.option("--max-new-tokens", type=click.IntRange(1, 8192), default=256, show_default=True, help="Longest answer.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change a setting of the config.")
@click.option("--name", help="What to call it.")
@click.option("--dry-run", is_flag=True, help="Check everything and start nothing.")
@click.option("--detach", is_flag=True, help="Return at once; it goes on in the background.")
def improve(
    *,
    config: Path,
    prompts: Path,
    held_out: int | None,
    judge_command: str | None,
    reward_model: str | None,
    judge_model: str | None,
    endpoint: str | None,
    endpoint_model: str | None,
    rubric: str | None,
    allow_http: bool,
    by_hand: bool,
    answers_from: str | None,
    answers_model: str | None,
    second_judge_command: str | None,
    judge_sees: int | None,
    answers: int | None,
    sweeps: tuple[str, ...],
    assignments: tuple[str, ...],
    name: str | None,
    dry_run: bool,
    detach: bool,
    **limits: Any,
) -> None:
    """Improve a model on prompts alone: sample answers, judge them, train on the pairs, judge the result; in rounds.

    CONFIG is a training's, without a dataset. Each round's model is judged blind on held-out prompts, against the start
    model and the round before. It stops by itself, says why, and writes report.md; killed or hung up, `resume` goes on.
    """
    judge = chosen_judge(
        judge_command=judge_command,
        reward_model=reward_model,
        judge_model=judge_model,
        endpoint=endpoint,
        endpoint_model=endpoint_model,
        rubric=rubric,
        allow_http=allow_http,
    )
    if (judge is None) != by_hand:
        raise UsageError(
            "improve needs one judge: --judge-command, --reward-model, --judge-model, --endpoint or --by-hand",
            hint="for example: --judge-command 'python score.py'",
        )
    judge = judge or JudgeChoice(PERSON)
    if bool(answers_from) != bool(answers_model):
        raise UsageError("--answers-from and --answers-model go together")
    shown = judge_sees or 0
    request = ImprovementRequest(
        config,
        prompts,
        replace(judge, max_answer_chars=shown),
        changes=dict(parse_assignment(text) for text in assignments),
        name=name,
        held_out=held_out,
        second_judge=JudgeChoice("program", second_judge_command, max_answer_chars=shown)
        if second_judge_command
        else None,
        source_of_answers=AnswerSource(url=answers_from, endpoint_model=str(answers_model), allow_http=allow_http)
        if answers_from
        else None,
        options=limits
        | {
            "answers": answers or (2 if by_hand else 4),
            "argv": list(sys.argv),
            "sweep": {key: list(values) for key, values in parse_sweep(sweeps).values.items()} if sweeps else {},
        },
    )
    ready = prepare_improvement(request, _narrate_merge)
    narrate_improvement(ready)
    if dry_run:
        narrate("nothing was started")
        return
    sys.exit(start_and_follow(ready, detach=detach))


def start_and_follow(ready: PreparedImprovement, *, detach: bool) -> int:
    """Start an improvement and follow it; return the command's exit code."""
    folder = create(ready.plan, ready.config, ready.prompts)
    start_improvement(folder)
    click.echo(folder.id)
    if detach:
        narrate(f"  dpo-tui status {folder.id}   shows how it goes")
        return 0
    return follow_improvement(folder)


def narrate_improvement(ready: PreparedImprovement) -> None:
    """Print what is going to happen."""
    plan = ready.plan
    held_out = sum(one.held_out for one in ready.prompts)
    training = len(ready.prompts) - held_out
    narrate_checks(ready.prepared, "the config, with stand-in answers")
    narrate(
        f"{training} prompts to train on, {held_out} held out; up to {plan.rounds} rounds of {plan.answers} answers to "
        f"each prompt ({training * plan.answers:,} answers a round)"
    )


def _narrate_merge(message: Message) -> None:
    if is_terminal():
        narrate(printable(str(message["message"]), single_line=True))
