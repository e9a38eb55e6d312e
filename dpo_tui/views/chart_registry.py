"""Which charts a run gets, in the order people need them, and which metrics each one draws.

A metric that no entry names gets a chart of its own at the end, so other trainers' metrics show up too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dpo_tui.text.printable import printable
from dpo_tui.views.plot import COLOURS, PlotLine, PlotStyle
from dpo_tui.views.series import Series


@dataclass(frozen=True, slots=True)
class ChartEntry:
    """One chart.

    Args:
        metrics: (metric, label) for each line; ``eval_`` twins are added by themselves.
        look: title, unit and limits.
        log: start with a logarithmic axis.
    """

    metrics: tuple[tuple[str, str], ...]
    look: PlotStyle
    log: bool = False
    twins: bool = field(default=True)


# KL below 10 is reasonable (TRL's PPO guidance, a per-sequence sum under the policy).
BOOK = (
    ChartEntry((("loss", "train"),), PlotStyle("loss")),
    ChartEntry((("rewards/accuracies", "train"),), PlotStyle("preference accuracy", within=(0.0, 1.0))),
    ChartEntry((("rewards/margins", "train"),), PlotStyle("reward margin")),
    ChartEntry((("kl", "KL"),), PlotStyle("KL (estimate)", reference=10.0)),
    ChartEntry((("rewards/chosen", "chosen"), ("rewards/rejected", "rejected")), PlotStyle("rewards"), twins=False),
    ChartEntry((("learning_rate", "rate"),), PlotStyle("learning rate")),
    ChartEntry((("grad_norm", "norm"),), PlotStyle("gradient norm")),
    ChartEntry((("tokens_per_second", "speed"),), PlotStyle("tokens per second", unit="tok/s")),
    ChartEntry((("step_seconds", "step"),), PlotStyle("seconds per step", unit="s")),
    ChartEntry((("vram_peak_gb", "peak"),), PlotStyle("VRAM peak", unit="GB")),
    ChartEntry(
        (("logps/chosen", "chosen"), ("logps/rejected", "rejected")), PlotStyle("log-probabilities"), twins=False
    ),
    ChartEntry((("logits/chosen", "chosen"), ("logits/rejected", "rejected")), PlotStyle("mean logits"), twins=False),
    ChartEntry((("entropy", "train"),), PlotStyle("entropy")),
    ChartEntry((("mean_token_accuracy", "train"),), PlotStyle("token accuracy", within=(0.0, 1.0))),
    ChartEntry((("num_tokens", "tokens"),), PlotStyle("tokens seen")),
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
        found.append(
            ChartEntry(((metric, "value"),), PlotStyle(printable(metric, single_line=True)), twins=metric == base)
        )
    return found


def lines_for(
    entry: ChartEntry, series: Mapping[str, Series], others: Sequence[tuple[str, Mapping[str, Series]]] = ()
) -> list[PlotLine]:
    """What a chart draws: its metrics, their evaluation twins, and the first metric of other runs laid over it.

    Args:
        entry: the chart.
        series: the run's metrics.
        others: (name, metrics) of runs to compare with; their colours are those after the run's own.
    """
    lines: list[PlotLine] = []
    for metric, label in entry.metrics:
        if metric in series:
            lines.append(PlotLine(label, series[metric], len(lines) + 1))
        if entry.twins and (twin := series.get(f"eval_{metric}")) is not None:
            lines.append(PlotLine("eval", twin, len(lines) + 1))
    first = entry.metrics[0][0]
    for index, (name, metrics) in enumerate(others):
        if first in metrics:
            lines.append(PlotLine(printable(name, single_line=True)[:16], metrics[first], (index + 2) % COLOURS + 1))
    return lines
