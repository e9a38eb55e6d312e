"""Checks of whose turn it is."""

from collections.abc import Iterable
from itertools import pairwise

from dpo_tui.data.checks.pair_columns import PairColumns
from dpo_tui.data.checks.registry import pair
from dpo_tui.data.pairs.pair import Message, Turns

_BEFORE_ANSWER = frozenset({"user", "tool"})


@pair(
    "role-order",
    "warning",
    title="the turns are not in order",
    explanation="Many chat templates refuse such conversations; others render them wrongly.",
    remedy="Look at the rows: a prompt ends with the user, an answer begins with the assistant.",
)
def role_order(batch: PairColumns) -> Iterable[int]:
    """A system message that is not first, two turns of one party, a prompt that does not end with the user."""
    return [at for at, turns in batch.turns.items() if _is_out_of_order(turns)]


def _is_out_of_order(turns: Turns) -> bool:
    prompt = turns.prompt if isinstance(turns.prompt, list) else [{"role": "user", "content": turns.prompt}]
    if not prompt or prompt[-1]["role"] not in _BEFORE_ANSWER:
        return True
    answers = [answer for answer in (turns.chosen, turns.rejected) if isinstance(answer, list)]
    if any(not answer or answer[0]["role"] != "assistant" or answer[-1]["role"] != "assistant" for answer in answers):
        return True
    return any(_alternates_badly(prompt + answer) for answer in answers or [[]])


def _alternates_badly(messages: list[Message]) -> bool:
    roles = [message["role"] for message in messages]
    while roles and roles[0] in {"system", "developer"}:
        roles.pop(0)
    if "system" in roles or "developer" in roles:
        return True
    return any(one == other and one != "tool" for one, other in pairwise(roles))
