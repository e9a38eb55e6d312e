"""The rules that end an improvement by itself, each with its evidence in a sentence. A new rule is a function here.

A rule sees the figures of the complete rounds. The limits of time and tokens are looked at within a round as well, by
the driver.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpo_tui.improve.improvement_plan import ImprovementPlan
from dpo_tui.improve.round_verdicts import AGAINST_LAST, AGAINST_START, JUDGE

_EVEN = 0.5
_NO_GAIN_ROUNDS = 2
"""Rounds in succession without a gain over the one before that end it."""
_CONTRADICTED = 0.5
"""Share of comparisons in which a judge contradicts itself when the order is swapped, beyond which its word is worth
little: a judge that draws lots contradicts itself in half of them."""
_LEAST_ASKED = 20
"""Comparisons below which that share says nothing."""

Rounds = Sequence[Mapping[str, Any]]
"""The figures of the complete rounds, in their order: see `dpo_tui.improve.round_figures`."""


@dataclass(frozen=True)
class Stop:
    """Why an improvement ends.

    Args:
        rule: the name of the rule.
        sentence: the reason with its evidence.
    """

    rule: str
    sentence: str


Rule = Callable[[ImprovementPlan, Rounds, Mapping[str, Any] | None], str]
_RULES: dict[str, Rule] = {}


def _rule(name: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES[name] = rule
        return rule

    return register


def stop_after(plan: ImprovementPlan, rounds: Rounds, start: Mapping[str, Any] | None) -> Stop | None:
    """Return the first rule that ends an improvement after its last complete round; None where it goes on.

    Args:
        plan: with the limits.
        rounds: the figures of the complete rounds; none before the first.
        start: features of the start model's held-out answers.
    """
    if not rounds:
        return None
    for name, rule in _RULES.items():
        if sentence := rule(plan, rounds, start):
            return Stop(name, sentence)
    return None


@_rule("target")
def _target(plan: ImprovementPlan, rounds: Rounds, _start: Mapping[str, Any] | None) -> str:
    """The lower end of the interval reaches the target: the rate itself may do so by chance."""
    wins = _wins(rounds[-1], AGAINST_START)
    if plan.target is None or not wins["interval"] or wins["interval"][0] < plan.target:
        return ""
    return f"the target of {plan.target:.0%} is reached: {_win_sentence(wins)} over the start model"


@_rule("judge")
def _judge(_plan: ImprovementPlan, rounds: Rounds, _start: Mapping[str, Any] | None) -> str:
    judge = rounds[-1]["counts"].get("judge", {})
    asked, contradicted = judge.get("asked", 0), judge.get("contradicted", 0)
    if asked < _LEAST_ASKED or contradicted <= _CONTRADICTED * asked:
        return ""
    return (
        f"the judge contradicts itself: asked in both orders it named another winner in {contradicted} of {asked} "
        "comparisons, no better than drawing lots; take another judge or another rubric"
    )


@_rule("kl")
def _kl(plan: ImprovementPlan, rounds: Rounds, _start: Mapping[str, Any] | None) -> str:
    kl = rounds[-1].get("kl")
    if plan.kl_limit is None or kl is None or kl <= plan.kl_limit:
        return ""
    return f"the model has moved {kl:z.1f} nats per answer from its reference, over the limit of {plan.kl_limit:g}"


@_rule("length")
def _length(plan: ImprovementPlan, rounds: Rounds, start: Mapping[str, Any] | None) -> str:
    now = rounds[-1]["features"]
    if not start or not now or not start["words"]:
        return ""
    factor = now["words"] / start["words"]
    if 1 / plan.length_limit <= factor <= plan.length_limit:
        return ""
    change = f"{factor:.1f} times" if factor > 1 else f"{factor:.0%}"
    return (
        f"the answers have become {change} as long as the start model's ({start['words']:.0f} to "
        f"{now['words']:.0f} words), over the limit of {plan.length_limit:g}: look whether they are better, or the "
        "judge likes the length"
    )


@_rule("no-gain")
def _no_gain(_plan: ImprovementPlan, rounds: Rounds, _start: Mapping[str, Any] | None) -> str:
    """Two rounds in succession in which the interval over the round before is not above one half."""
    recent = rounds[-_NO_GAIN_ROUNDS:]
    if len(recent) < _NO_GAIN_ROUNDS:
        return ""
    wins = [_wins(one, AGAINST_LAST) for one in recent]
    if any(one["interval"] and one["interval"][0] > _EVEN for one in wins):
        return ""
    evidence = "; ".join(
        f"round {figures['number']} {_win_sentence(one)}" for figures, one in zip(recent, wins, strict=True)
    )
    return f"no gain in {_NO_GAIN_ROUNDS} rounds over the round before each: {evidence}"


@_rule("rounds")
def _rounds(plan: ImprovementPlan, rounds: Rounds, _start: Mapping[str, Any] | None) -> str:
    if len(rounds) < plan.rounds:
        return ""
    return f"all {plan.rounds} rounds are done" if plan.rounds > 1 else "its one round is done"


def _wins(figures: Mapping[str, Any], against: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = figures["wins"][JUDGE][against]
    return found


def _win_sentence(wins: Mapping[str, Any]) -> str:
    decided = wins["tuned"] + wins["base"]
    if not decided:
        return "has no decided verdict"
    low, high = wins["interval"]
    return f"wins {wins['tuned']} of {decided} ({wins['rate']:.0%}, 95 % interval {low:.0%} to {high:.0%})"
