"""The strategies that a config may name, and how to find the one of a run."""

from collections.abc import Iterable
from typing import Protocol

from dpo_tui.errors import ConfigError
from dpo_tui.strategies.cpo import CPO, SIMPO
from dpo_tui.strategies.dpo import DPO
from dpo_tui.strategies.kto import KTO
from dpo_tui.strategies.metric_expectations import Metric
from dpo_tui.strategies.orpo import ORPO
from dpo_tui.strategies.sft import SFT
from dpo_tui.strategies.strategy import Settings, Strategy

STRATEGIES: dict[str, Strategy] = {strategy.name: strategy for strategy in (DPO, SFT, KTO, ORPO, SIMPO, CPO)}
"""By name, in the order in which forms and help show them. A new strategy is one more row."""
DEFAULT = DPO.name
"""The strategy of a config that names none."""


class HasStrategy(Protocol):
    """Anything with a strategy's name, such as a config; `dpo_tui.config` is above this package in the layers."""

    @property
    def strategy(self) -> str:
        """Name of the strategy."""


def names() -> tuple[str, ...]:
    """Return the name of every strategy."""
    return tuple(STRATEGIES)


def by_name(name: str) -> Strategy:
    """Return a strategy.

    Raises:
        ConfigError: there is no strategy of that name.
    """
    try:
        return STRATEGIES[name]
    except KeyError:
        raise ConfigError(f"strategy = {name!r}: must be one of {', '.join(names())}") from None


def settings_of_losses() -> frozenset[str]:
    """Return every setting that some strategies read and others do not."""
    return frozenset().union(*(strategy.settings or () for strategy in STRATEGIES.values()))


def strategy_of(config: HasStrategy) -> Strategy:
    """Return the strategy of a config."""
    return by_name(config.strategy)


def strategy_in(settings: Settings) -> Strategy | None:
    """Return the strategy of a run's frozen settings; None where this version does not know it."""
    return STRATEGIES.get(str(settings.get("strategy", DEFAULT)))


def recognise(metrics: Iterable[str]) -> Strategy:
    """Return the strategy whose trainer most likely logged these metrics, for folders of other trainers.

    It is the one that logs most of them. On a tie it is the one with the fewest metrics missing, since DPO logs all
    metrics of SFT too.
    """
    logged = {name.removeprefix("eval_") for name in metrics}

    def likeness(strategy: Strategy) -> tuple[int, int]:
        own = {metric.name for metric in strategy.metrics}
        return len(own & logged), -len(own - logged)

    return max(STRATEGIES.values(), key=likeness)


def judged_metrics() -> tuple[Metric, ...]:
    """Return every metric of which one direction is better, in the order of the strategies, each name once."""
    found: dict[str, Metric] = {}
    for strategy in STRATEGIES.values():
        for metric in strategy.judged_metrics:
            found.setdefault(metric.name, metric)
    return tuple(found.values())
