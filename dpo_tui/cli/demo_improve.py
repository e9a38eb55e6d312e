"""`dpo-tui demo --improve`: rounds of improvement of the toy model on prompts alone, judged by a program."""

import shlex
import sys
import textwrap

from dpo_tui.cli.improve import narrate_improvement, start_and_follow
from dpo_tui.cli.output import narrate
from dpo_tui.demo import assets
from dpo_tui.improve.new_improvement import ImprovementRequest, PreparedImprovement, prepare_improvement
from dpo_tui.judging.judges.judge import JudgeChoice

_INTRODUCTION = (
    "dpo-tui demo --improve: no preference data, only questions. The toy model answers each several times, a program "
    "scores how politely an answer begins, the model trains on its own best against its own worst, and the result is "
    "judged blind on questions that it never trained on. A second program, which looks for something else and has no "
    "say, judges as well. Some minutes on two cores; nothing is downloaded."
)
_SEEN = 24
"""Characters of an answer that the first judge sees, so that it cannot reward length."""
_STEPS = 40
_ROUNDS = 3
_LENGTH_LIMIT = 20.0
"""The toy model's unhelpful answers have three words and its helpful ones forty: here length is what should change."""
_TARGET = 0.8


def improve_demo() -> int:
    """Start the demo's improvement, follow it, and return the command's exit code."""
    narrate(textwrap.fill(_INTRODUCTION, 78, break_on_hyphens=False) + "\n")
    ready = prepare_demo()
    narrate_improvement(ready)
    return start_and_follow(ready, detach=False)


def prepare_demo() -> PreparedImprovement:
    """Prepare the demo's improvement."""
    return prepare_improvement(
        ImprovementRequest(
            assets.config_file(),
            assets.prompts_file(),
            JudgeChoice("program", _program("courtesy"), max_answer_chars=_SEEN),
            changes={"model_name": str(assets.model_dir()), "max_steps": _STEPS, "eval_split": 0.1},
            name="demo-improve",
            held_out=40,
            second_judge=JudgeChoice("program", _program("offer")),
            options={
                "rounds": _ROUNDS,
                "answers": 6,
                "max_new_tokens": 80,
                "target": _TARGET,
                "length_limit": _LENGTH_LIMIT,
                "argv": list(sys.argv),
            },
        )
    )


def _program(judge: str) -> str:
    return f"{shlex.quote(sys.executable)} -P -m dpo_tui.demo.judges {judge}"
