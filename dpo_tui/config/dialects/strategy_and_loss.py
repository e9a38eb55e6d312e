"""Conversions of what a foreign file trains: the strategy, its loss, and the weight of a supervised loss."""

from collections.abc import Sequence
from typing import Any

from dpo_tui.config.dialects.conversion import Conversion, number
from dpo_tui.config.same_meaning import LOSS_MEANING
from dpo_tui.config.schema import choices, fields
from dpo_tui.strategies import registry

REFERENCE_FREE = frozenset({"orpo", "simpo", "cpo"})
"""Strategies that other tools name as losses."""


def loss(conversion: Conversion, key: str, names: Sequence[str], why: str = "") -> None:
    """Take one loss or several by their names in TRL; one that is none of DPO's needs a decision.

    Args:
        conversion: receives the outcome.
        key: the foreign key.
        names: of the losses. One that is a strategy here, such as ``simpo``, is taken as that.
        why: a remark on that strategy.
    """
    if len(names) == 1 and names[0] in REFERENCE_FREE:
        conversion.take(key, "strategy", names[0], why)
        return
    unknown = next((name for name in names if name not in choices(fields()["loss_type"])), None)
    if unknown is None:
        conversion.take(key, "loss_type", list(names))
        return
    meaning = LOSS_MEANING.get(unknown.lower(), "is no loss of TRL's DPOTrainer")
    conversion.leave_undecided(key, list(names) if len(names) > 1 else unknown, f"{unknown}: {meaning}")


def unpaired_loss(conversion: Conversion, key: str, names: Sequence[str]) -> None:
    """Take the loss of a file that trains with KTO: TRL's KTOTrainer has ``kto`` and ``apo_zero_unpaired``."""
    if list(names) == ["apo_zero_unpaired"]:
        conversion.pass_on(key, "trl", "loss_type", "apo_zero_unpaired")
    elif set(names) <= {"kto", "kto_pair", "sigmoid"}:  # sigmoid: the other tools' default, which KTO does not read
        conversion.drop(key, "the loss of strategy kto is its own")
    else:
        conversion.leave_undecided(key, list(names), "strategy kto has one loss, its own")


def no_supervised_loss(conversion: Conversion, key: str, value: Any) -> None:
    """Leave the weight of a loss on the desirable answers beside KTO's to the user; 0 is dropped."""
    if number(value):
        conversion.leave_undecided(key, value, "a loss on the desirable answers beside KTO's, which TRL does not have")
    else:
        conversion.drop(key, "is 0")


def supervised_loss(conversion: Conversion, key: str, weight: Any, losses: Sequence[str] | None = None) -> None:
    """Add the loss on the chosen answers with a weight (RPO's α): loss_type = ["sigmoid", "sft"] with loss_weights."""
    weight = number(weight)
    if not weight:
        conversion.drop(key, "is 0")
        return
    known = [name for name in losses or ["sigmoid"] if name in choices(fields()["loss_type"])] or ["sigmoid"]
    weights = conversion.values.get("loss_weights")
    if not isinstance(weights, list) or len(weights) != len(known):
        weights = [1.0] * len(known)
    if "sft" in known:  # TRL adds the two
        weights = [one + weight if name == "sft" else one for name, one in zip(known, weights, strict=True)]
    else:
        known, weights = [*known, "sft"], [*weights, weight]
    conversion.values["loss_type"] = known
    conversion.take(key, "loss_weights", weights, f"the weight of the added loss: loss_type {known}")


def strategy(conversion: Conversion, key: str, value: Any) -> None:
    """Take what is trained, where dpo-tui trains it; else it needs a decision."""
    name = str(value).lower()
    if name in registry.STRATEGIES:
        conversion.take(key, "strategy", name)
    elif name == "ipo":
        conversion.take(key, "loss_type", ["ipo"], "IPO is a loss of the strategy dpo")
        conversion.values["strategy"] = "dpo"
    else:
        meaning = LOSS_MEANING.get(name, f"dpo-tui trains {' and '.join(registry.names())}")
        conversion.leave_undecided(key, value, meaning)
