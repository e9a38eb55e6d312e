"""Registry of the kinds of judges: a new kind is a module with one function, and a row here."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from dpo_tui.errors import UsageError
from dpo_tui.judging.judges.asking_judge import AskingJudge
from dpo_tui.judging.judges.chat_model import open_chat_model
from dpo_tui.judging.judges.judge import Judge, JudgeChoice
from dpo_tui.judging.judges.program_judge import program_judge
from dpo_tui.judging.judges.reward_judges import own_reward_judge, reward_model_judge


def open_judge(choice: JudgeChoice) -> AbstractContextManager[Judge]:
    """Open the judge of a choice; leaving the context ends its processes and connections.

    Raises:
        UsageError: there is no such kind, or its target cannot be used; for a person, whom the commands ask themselves.
        ChildError: a model cannot be loaded. Both also on entering the context.
    """
    if choice.kind == "person":
        raise UsageError("a person judges at the keys of `dpo-tui judge` and `dpo-tui pairs`, and not by being opened")
    if choice.kind not in _KINDS:
        raise UsageError(f"no judge of the kind {choice.kind!r}", hint=f"known: {', '.join(_KINDS)}, person")
    if not choice.target:
        raise UsageError(f"a judge of the kind {choice.kind} needs to know which one")
    return _KINDS[choice.kind](choice)


def check_judge(choice: JudgeChoice) -> None:
    """Refuse a choice that cannot be opened, before anything else takes time; no model is loaded and nothing is asked.

    Raises:
        UsageError: see :func:`open_judge`.
    """
    opened = open_judge(choice)
    if choice.kind in _OPENED_AT_ONCE:
        with opened:
            pass


@contextmanager
def _asking_judge(choice: JudgeChoice) -> Iterator[Judge]:
    with open_chat_model(choice) as model:
        yield AskingJudge(model, choice.rubric, choice.max_answer_chars)


_KINDS: dict[str, Callable[[JudgeChoice], AbstractContextManager[Judge]]] = {
    "program": program_judge,
    "reward-model": reward_model_judge,
    "own-reward": own_reward_judge,
    "model": _asking_judge,
    "endpoint": _asking_judge,
}
_OPENED_AT_ONCE = ("program", "endpoint")
"""Kinds for which opening starts no process and sends nothing."""
