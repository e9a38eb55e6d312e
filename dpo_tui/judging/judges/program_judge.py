"""A program as the judge: it gets answers as JSON lines on stdin, and gives a score for each on stdout.

    in   {"id": "1", "prompt": "text of the last message", "messages": [{"role", "content"}, …], "answer": "…"}
    out  {"id": "1", "score": 0.5}

The lines out may come in any order and at any time; each id must come once. The program is started once for all answers
that wait, without a shell, in the current folder, with the user's environment but without our API keys and tokens.
"""

import json
import math
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpo_tui.errors import DpoTuiError, UsageError
from dpo_tui.judging.endpoint.chat_endpoint import KEY_VARIABLES
from dpo_tui.judging.judges.judge import AnswerToScore, Judge, JudgeChoice
from dpo_tui.judging.judges.scoring_judge import ScoringJudge
from dpo_tui.processes.json_child import ChildError
from dpo_tui.processes.program_child import ProgramChild
from dpo_tui.text.printable import printable

TIMEOUT_SECONDS = 600.0
"""For which a program may go without a line: it may load a model first, or run tests of code for each answer."""
_SECRET = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD")
_SHOWN = 80


class ProgramJudgeError(DpoTuiError):
    """A judging program failed, or gave something other than one score for each answer."""


@contextmanager
def program_judge(choice: JudgeChoice) -> Iterator[Judge]:
    """Score by the program of a choice.

    Raises:
        UsageError: the command cannot be split into words, or its program is not there.
    """
    command = _split(choice.target)
    name = f"program {shown_command(choice.target)}"

    def score_in_order(answers: Sequence[AnswerToScore]) -> Iterator[float]:
        return _scores(command, name, answers)

    yield ScoringJudge(name, score_in_order, choice.max_answer_chars)


def _split(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(
            f"--judge-command {command!r} cannot be read: {error}", hint="quote it as a shell would"
        ) from None
    if words and shutil.which(words[0]) is None:
        raise UsageError(f"--judge-command: {printable(words[0], single_line=True)}: there is no such program")
    if not words:
        raise UsageError("--judge-command is empty", hint='give a program, such as "python score.py"')
    return words


def shown_command(text: str) -> str:
    """Return the program of a command line, and the file that it runs if that comes next: arguments may be secret.

    Raises:
        UsageError: the command line cannot be split into words.
    """
    command = _split(text)
    shown = command[0]
    if len(command) > 1 and Path(command[1]).is_file():
        shown += f" {command[1]}"
    return printable(shown, single_line=True)


def _scores(command: Sequence[str], name: str, answers: Sequence[AnswerToScore]) -> Iterator[float]:
    """Run the program once over different answers, and yield their scores in order."""
    environment = {key: value for key, value in os.environ.items() if key not in (*_SECRET, *KEY_VARIABLES)}
    # A Python program's print then reaches us at once and not in blocks of 8 KiB.
    environment["PYTHONUNBUFFERED"] = "1"
    lines = (_line(number, answer) for number, answer in enumerate(answers, start=1))
    scores: dict[int, float] = {}
    next_number = 1
    try:
        with ProgramChild(command, name, environment) as child:
            for count, line in enumerate(child.exchange(lines, TIMEOUT_SECONDS), start=1):
                if not line.strip():
                    continue
                number, score = _read_score(name, count, line, len(answers))
                if number in scores:
                    raise _refused(name, count, line, f"the id {str(number)!r} came before")
                scores[number] = score
                while next_number in scores:
                    yield scores[next_number]
                    next_number += 1
    except ChildError as error:
        raise ProgramJudgeError(printable(error.message), hint=_HINT) from None
    missing = [number for number in range(1, len(answers) + 1) if number not in scores]
    if missing:
        raise ProgramJudgeError(
            f"{name} ended without a score for {len(missing)} of {len(answers)} answers; the first has the id "
            f"{str(missing[0])!r}",
            hint=_HINT,
        )


_HINT = 'expected one line {"id": …, "score": number} for each line that it got; scores so far are kept'


def _line(number: int, answer: AnswerToScore) -> bytes:
    content = answer.messages[-1].get("content") if answer.messages else ""
    prompt = content if isinstance(content, str) else json.dumps(content)
    row = {"id": str(number), "prompt": prompt, "messages": answer.messages, "answer": answer.answer}
    return json.dumps(row).encode() + b"\n"


def _read_score(name: str, count: int, line: bytes, total: int) -> tuple[int, float]:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise _refused(name, count, line, "it is not JSON") from None
    if not isinstance(row, dict):
        raise _refused(name, count, line, "it is no JSON object")
    sent, value = row.get("id"), row.get("score")
    if not (isinstance(sent, str) and sent.isascii() and sent.isdigit() and sent == str(int(sent[:20]))):
        raise _refused(name, count, line, "it has no id that was sent")
    if not 1 <= int(sent) <= total:
        raise _refused(name, count, line, f"the id {sent!r} was not sent")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(name, count, line, "its score is not a number")
    try:
        score = float(value)
    except OverflowError:
        score = math.inf
    if not math.isfinite(score):
        raise _refused(name, count, line, "its score is not a finite number")
    return int(sent), score


def _refused(name: str, count: int, line: bytes, why: str) -> ProgramJudgeError:
    shown = printable(line[:_SHOWN].decode("utf-8", "replace"), single_line=True)
    return ProgramJudgeError(f"{name}, line {count} of its output: {why}: {shown!r}", hint=_HINT)
