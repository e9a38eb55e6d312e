"""The registry of charts: order, and metrics that it does not know."""

from dpo_tui.views.chart_registry import charts_for


def test_loss_accuracy_margin_and_kl_come_first_and_unknown_metrics_last():
    """The first screen is not the alphabet."""
    found = charts_for(["zeta", "alpha", "eval_loss", "loss", "learning_rate", "kl", "rewards/chosen", "t", "epoch"])
    titles = [entry.style.title for entry in found]
    assert titles[:4] == ["loss", "preference accuracy", "reward margin", "KL (estimate)"]
    assert titles[4:] == ["rewards", "learning rate", "alpha", "zeta"]


def test_hostile_metric_names_are_made_printable():
    titles = [entry.style.title for entry in charts_for(["\x1b[31mred\x07"])]
    assert titles[-1] == "red�"
