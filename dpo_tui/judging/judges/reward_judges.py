"""Scores from a ``score`` child: a reward model's output, or the DPO reward of a run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpo_tui.errors import UsageError
from dpo_tui.hardware.tool_gpu import tool_environment
from dpo_tui.judging.judges.judge import AnswerToScore, Judge, JudgeChoice
from dpo_tui.judging.judges.scoring_judge import ScoringJudge
from dpo_tui.processes.torch_tool import TorchTool

_BATCH = 8
"""Answers in one request, so that their scores are kept before the next."""


@contextmanager
def reward_model_judge(choice: JudgeChoice) -> Iterator[Judge]:
    """Score by a sequence classifier with one output.

    Raises:
        ChildError: it cannot be loaded, or is no reward model.
    """
    with _scorer({"do": "load-reward", "model": choice.target}) as tool:
        yield _judge(tool, f"reward model {choice.target}", choice)


@contextmanager
def own_reward_judge(choice: JudgeChoice) -> Iterator[Judge]:
    """Score by β (log π − log π_ref) of the run ``run:FOLDER``.

    Raises:
        UsageError: the choice names no run.
        ChildError: the run cannot be loaded.
    """
    folder = choice.target.removeprefix("run:")
    if folder == choice.target:
        raise UsageError("the own reward is that of a run: give run:ID", hint="a model without a reference has none")
    with _scorer({"do": "load-run", "run": folder}) as tool:
        yield _judge(tool, f"own reward of run {Path(folder).name}", choice)


@contextmanager
def _scorer(load: dict[str, str]) -> Iterator[TorchTool]:
    with TorchTool("score", environment=tool_environment()) as tool:
        for _ in tool.ask(load):
            pass
        yield tool


def _judge(tool: TorchTool, name: str, choice: JudgeChoice) -> ScoringJudge:
    def score_in_order(answers: Sequence[AnswerToScore]) -> Iterator[float]:
        for start in range(0, len(answers), _BATCH):
            items: list[dict[str, Any]] = [vars(one) for one in answers[start : start + _BATCH]]
            # Read to its end before anything is yielded: scores that nobody took would answer the next request.
            messages = [message for message in tool.ask({"do": "score", "items": items}) if message["kind"] == "score"]
            yield from (float(message["value"]) for message in messages)

    return ScoringJudge(name, score_in_order, choice.max_answer_chars)
