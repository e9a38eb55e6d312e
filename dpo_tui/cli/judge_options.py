"""The options by which commands name a judge, and the choice that they make."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dpo_tui.errors import UsageError
from dpo_tui.groups.group_store import find_run
from dpo_tui.judging.judges.judge import JudgeChoice
from dpo_tui.judging.rubrics import SHIPPED, resolve_rubric, rubric_hash

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--judge-command",
        metavar="COMMAND",
        help='Let a program judge, such as "python score.py": it gets answers as JSON lines and gives scores.',
    ),
    click.option("--reward-model", metavar="MODEL", help="Let a reward model judge by its scores."),
    click.option(
        "--judge-model", metavar="MODEL", help="Let a model on this machine judge: a hub id, a folder, or run:ID."
    ),
    click.option("--endpoint", metavar="URL", help="Let a model behind an OpenAI-compatible endpoint judge."),
    click.option("--endpoint-model", metavar="NAME", help="What the endpoint calls the model."),
    click.option(
        "--rubric",
        metavar="NAME|FILE",
        help=f"Criteria of a model that is asked: {', '.join(SHIPPED)}, or a text file.",
    ),
    click.option("--allow-http", is_flag=True, help="Accept endpoints of other machines without TLS."),
)


def judge_options(command: Command) -> Command:
    """Give a command the options that :func:`chosen_judge` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def chosen_judge(
    *,
    judge_command: str | None,
    reward_model: str | None,
    judge_model: str | None,
    endpoint: str | None,
    endpoint_model: str | None,
    rubric: str | None,
    allow_http: bool,
    own_reward: str = "",
) -> JudgeChoice | None:
    """Return the judge that the options name; None for the person.

    Args:
        judge_command: option of a program.
        reward_model: option of a reward model.
        judge_model: option of a model on this machine.
        endpoint: address of an endpoint.
        endpoint_model: name of its model.
        rubric: name or file of the criteria.
        allow_http: whether plain http is accepted.
        own_reward: ``run:FOLDER`` where the run's own reward ranks.

    Raises:
        UsageError: two judges are named, or options that do not go together.
        RunNotFoundError: the run that judges is not there.
    """
    if bool(endpoint) != bool(endpoint_model):
        raise UsageError("--endpoint and --endpoint-model go together")
    targets = {
        "program": judge_command,
        "reward-model": reward_model,
        "model": model_or_run(judge_model) if judge_model else None,
        "endpoint": endpoint,
        "own-reward": own_reward,
    }
    named = [(kind, target) for kind, target in targets.items() if target]
    if len(named) > 1:
        raise UsageError("choose one judge", hint=f"these are {len(named)}: {', '.join(kind for kind, _ in named)}")
    kind, target = named[0] if named else ("person", "")
    asked = kind in ("model", "endpoint")
    if rubric and not asked:
        raise UsageError(
            "--rubric is for a judge that is asked in words", hint="it goes with --judge-model or --endpoint"
        )
    if not named:
        return None
    text = resolve_rubric(rubric).text if rubric else ""
    return JudgeChoice(kind, str(target), endpoint_model or "", text, allow_http)


def model_or_run(model: str) -> str:
    """Return a hub id or folder as it is, and ``run:ID`` as ``run:FOLDER``.

    Raises:
        RunNotFoundError: there is no such run.
    """
    return f"run:{find_run(model.removeprefix('run:')).path}" if model.startswith("run:") else model


def rubric_of(choice: JudgeChoice) -> str:
    """Return the hash of the rubric that a judge of this choice has; empty for one that is not asked in words."""
    return rubric_hash(choice.rubric) if choice.kind in ("model", "endpoint") else ""
