"""The ranking of a sweep as a table: the figures that rank the runs are in it, whatever they are."""

from typing import Any

from dpo_tui.groups.ranking import LOSS, RankedRun, Ranking
from dpo_tui.runs.comparison_noise import ACCURACY
from dpo_tui.views.ranking_table import ranking_lines


def run(place: int | None, **figures: Any) -> RankedRun:
    return RankedRun(place, 1, f"tone-{place}", "id", "done" if place else "failed", {"beta": 0.1}, **figures)


def test_runs_with_an_accuracy_are_shown_with_its_interval_margin_and_kl() -> None:
    first = run(1, accuracy=0.79, low=0.68, high=0.87, pairs=67, margin=0.3, kl=-0.001, loss=0.6, verdict="best")
    head, line = ranking_lines(Ranking(ACCURACY, (first,), ()), 80)
    assert head.split() == ["name", "accuracy", "95", "%", "margin", "KL", "against", "the", "best", "values"]
    assert line.split() == ["1", "tone-1", "0.79", "0.68–0.87", "0.300", "0.00", "best", "beta=0.1"]


def test_runs_without_an_accuracy_are_shown_with_the_loss_that_ranks_them() -> None:
    head, best, other, failed = ranking_lines(Ranking(LOSS, (run(1, loss=1.25), run(2, loss=1.5), run(None)), ()), 80)
    assert head.split() == ["name", "loss", "against", "the", "best", "values"]
    assert best.split() == ["1", "tone-1", "1.2500", "beta=0.1"]
    assert other.split() == ["2", "tone-2", "1.5000", "beta=0.1"]
    assert failed.split() == ["-", "tone-None", "failed", "beta=0.1"]
