"""Which charts a run gets, in the order people need them, and which metrics each one draws.

A metric that no entry names gets a chart of its own at the end, so other trainers' metrics show up too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dpo_tui.plain import printable
from dpo_tui.widgets.plot import COLOURS, Line, Look
from dpo_tui.widgets.series import Series


@dataclass(frozen=True, slots=True)
class ChartEntry:
    """One chart.

    Args:
        metrics: (metric, label) for each line; ``eval_`` twins are added by themselves.
        look: title, unit and limits.
        log: start with a logarithmic axis.
    """

    metrics: tuple[tuple[str, str], ...]
    look: Look
    log: bool = False
    twins: bool = field(default=True)


# KL below 10 is reasonable (TRL's PPO guidance, a per-sequence sum under the policy).
BOOK = (
    ChartEntry((("loss", "train"),), Look("loss")),
    ChartEntry((("rewards/accuracies", "train"),), Look("preference accuracy", within=(0.0, 1.0))),
    ChartEntry((("rewards/margins", "train"),), Look("reward margin")),
    ChartEntry((("kl", "KL"),), Look("KL (estimate)", reference=10.0)),
    ChartEntry((("rewards/chosen", "chosen"), ("rewards/rejected", "rejected")), Look("rewards"), twins=False),
    ChartEntry((("learning_rate", "rate"),), Look("learning rate")),
    ChartEntry((("grad_norm", "norm"),), Look("gradient norm")),
    ChartEntry((("tokens_per_second", "speed"),), Look("tokens per second", unit="tok/s")),
    ChartEntry((("step_seconds", "step"),), Look("seconds per step", unit="s")),
    ChartEntry((("vram_peak_gb", "peak"),), Look("VRAM peak", unit="GB")),
    ChartEntry((("logps/chosen", "chosen"), ("logps/rejected", "rejected")), Look("log-probabilities"), twins=False),
    ChartEntry((("logits/chosen", "chosen"), ("logits/rejected", "rejected")), Look("mean logits"), twins=False),
    ChartEntry((("entropy", "train"),), Look("entropy")),
    ChartEntry((("mean_token_accuracy", "train"),), Look("token accuracy", within=(0.0, 1.0))),
    ChartEntry((("num_tokens", "tokens"),), Look("tokens seen")),
)
FIRST = 4
"""Charts that every run of preference training shows from the start, values or not."""

HIDDEN = frozenset({"t", "step", "epoch", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second"})
"""Numbers of a log event that are no metric worth a chart."""


def charts_for(metrics: Iterable[str]) -> list[ChartEntry]:
    """The charts for the metrics a run has logged: the first four, the book's others with values, then the rest."""
    present = {metric for metric in metrics if metric not in HIDDEN}
    found: list[ChartEntry] = []
    for index, entry in enumerate(BOOK):
        names = {metric for metric, _ in entry.metrics}
        names |= {f"eval_{metric}" for metric in names}
        if index < FIRST or present & names:
            found.append(entry)
        present -= names
    for metric in sorted(present):
        base = metric.removeprefix("eval_")
        if metric != base and base in present:
            continue
        found.append(ChartEntry(((metric, "value"),), Look(printable(metric, single_line=True)), twins=metric == base))
    return found


def lines_for(
    entry: ChartEntry, series: Mapping[str, Series], others: Sequence[tuple[str, Mapping[str, Series]]] = ()
) -> list[Line]:
    """What a chart draws: its metrics, their evaluation twins, and the first metric of other runs laid over it.

    Args:
        entry: the chart.
        series: the run's metrics.
        others: (name, metrics) of runs to compare with; their colours are those after the run's own.
    """
    lines: list[Line] = []
    for metric, label in entry.metrics:
        if metric in series:
            lines.append(Line(label, series[metric], len(lines) + 1))
        if entry.twins and (twin := series.get(f"eval_{metric}")) is not None:
            lines.append(Line("eval", twin, len(lines) + 1))
    first = entry.metrics[0][0]
    for index, (name, metrics) in enumerate(others):
        if first in metrics:
            lines.append(Line(printable(name, single_line=True)[:16], metrics[first], (index + 2) % COLOURS + 1))
    return lines
