"""The registry of charts: which metrics each one draws, and in which order they are shown.

A metric that no entry names gets a chart at the end, so that other trainers' metrics are shown too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dpo_tui.strategies.metric_expectations import KL_REASONABLE, KL_TERM
from dpo_tui.text.printable import printable
from dpo_tui.views.plot import COLOURS, PlotLine, PlotStyle
from dpo_tui.views.series import Series


@dataclass(frozen=True, slots=True)
class ChartEntry:
    """One chart.

    Args:
        metrics: (metric, label) of each line.
        style: title, unit, reference line and limits.
        log: whether the y axis is logarithmic at first.
        eval_lines: whether ``eval_<metric>`` is drawn beside each metric.
    """

    metrics: tuple[tuple[str, str], ...]
    style: PlotStyle
    log: bool = False
    eval_lines: bool = True


CHARTS = (
    ChartEntry((("loss", "train"),), PlotStyle("loss")),
    ChartEntry((("rewards/accuracies", "train"),), PlotStyle("preference accuracy", within=(0.0, 1.0))),
    ChartEntry((("rewards/margins", "train"),), PlotStyle("reward margin")),
    ChartEntry((("kl", "KL"),), PlotStyle("KL (estimate)", reference=KL_REASONABLE)),
    ChartEntry(
        (("rewards/chosen", "chosen"), ("rewards/rejected", "rejected")), PlotStyle("rewards"), eval_lines=False
    ),
    ChartEntry(((KL_TERM, "train"),), PlotStyle("KL term of the loss")),
    ChartEntry((("reward", "mean"),), PlotStyle("reward")),
    ChartEntry((("reward_std", "deviation"),), PlotStyle("reward deviation")),
    ChartEntry((("accuracy", "train"),), PlotStyle("accuracy", within=(0.0, 1.0))),
    ChartEntry((("margin", "train"),), PlotStyle("margin")),
    ChartEntry((("mean_token_accuracy", "train"),), PlotStyle("token accuracy", within=(0.0, 1.0))),
    ChartEntry((("completions/mean_length", "mean"),), PlotStyle("length of answers", unit="tok")),
    ChartEntry((("learning_rate", "rate"),), PlotStyle("learning rate")),
    ChartEntry((("grad_norm", "norm"),), PlotStyle("gradient norm")),
    ChartEntry((("tokens_per_second", "speed"),), PlotStyle("tokens per second", unit="tok/s")),
    ChartEntry((("step_seconds", "step"),), PlotStyle("seconds per step", unit="s")),
    ChartEntry((("vram_peak_gb", "peak"),), PlotStyle("VRAM peak", unit="GB")),
    ChartEntry(
        (("logps/chosen", "chosen"), ("logps/rejected", "rejected")), PlotStyle("log-probabilities"), eval_lines=False
    ),
    ChartEntry(
        (("logits/chosen", "chosen"), ("logits/rejected", "rejected")), PlotStyle("mean logits"), eval_lines=False
    ),
    ChartEntry((("nll_loss", "train"),), PlotStyle("loss of the chosen answers")),
    ChartEntry((("log_odds_chosen", "train"),), PlotStyle("log odds ratio")),
    ChartEntry((("entropy", "train"),), PlotStyle("entropy")),
    ChartEntry((("num_tokens", "tokens"),), PlotStyle("tokens seen")),
)
ALWAYS_SHOWN = 4
"""How many of `CHARTS`, from the first, are shown of a run on preference pairs before they have values."""
_OF_REFERENCE = "kl"
"""The metric among them that a run without a reference never has."""

HIDDEN = frozenset(
    {"t", "step", "epoch", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}
    | {"train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos"}
)
"""Keys of a log event that get no chart: no metrics, or one value at the end of training."""


def charts_for(metrics: Iterable[str], *, expected: bool = True) -> list[ChartEntry]:
    """The charts for the metrics that a run has logged.

    Args:
        metrics: names of metrics, as in ``metrics.jsonl``.
        expected: whether the first `ALWAYS_SHOWN` entries of `CHARTS` are shown before they have values, of a run that
            has logged nothing yet or seems to train on preference pairs. Other tools may never log them.

    Returns:
        The entries of `CHARTS` that are expected or have values, then one for each unknown metric.
    """
    from dpo_tui.strategies.registry import recognise  # the first paint needs the charts and no strategy

    present = {metric for metric in metrics if metric not in HIDDEN}
    strategy = recognise(present)
    expects = not present or (expected and strategy.has_preference_accuracy)
    never = {_OF_REFERENCE} if present and not strategy.has_reference else set()
    found: list[ChartEntry] = []
    for index, entry in enumerate(CHARTS):
        names = {metric for metric, _ in entry.metrics}
        names |= {f"eval_{metric}" for metric in names}
        if (expects and index < ALWAYS_SHOWN and not names & never) or present & names:
            found.append(entry)
        present -= names
    for metric in sorted(present):
        base = metric.removeprefix("eval_")
        if metric != base and base in present:
            continue
        found.append(
            ChartEntry(((metric, "value"),), PlotStyle(printable(metric, single_line=True)), eval_lines=metric == base)
        )
    return found


def lines_for(
    entry: ChartEntry, series: Mapping[str, Series], others: Sequence[tuple[str, Mapping[str, Series]]] = ()
) -> list[PlotLine]:
    """The lines of a chart: its metrics, the same of evaluations, and the first metric of runs to compare with.

    Args:
        entry: the chart.
        series: the run's metrics by name.
        others: (name, metrics by name) of runs to compare with, which get the colours from the third on.
    """
    lines: list[PlotLine] = []
    for metric, label in entry.metrics:
        if metric in series:
            lines.append(PlotLine(label, series[metric], len(lines) + 1))
        if entry.eval_lines and (evaluated := series.get(f"eval_{metric}")) is not None:
            lines.append(PlotLine("eval", evaluated, len(lines) + 1))
    first = entry.metrics[0][0]
    for index, (name, metrics) in enumerate(others):
        if first in metrics:
            lines.append(PlotLine(printable(name, single_line=True)[:16], metrics[first], (index + 2) % COLOURS + 1))
    return lines
