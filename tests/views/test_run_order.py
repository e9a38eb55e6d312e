"""Which runs are listed, and in which order."""

from pathlib import Path

from dpo_tui.runs.folder import RunFolder
from dpo_tui.views.run_list import RunSummary
from dpo_tui.views.run_order import ORDERS, listed, next_order


def run(run_id: str, status: str, name: str = "", held_out: float | None = None, **more: str) -> RunSummary:
    return RunSummary(RunFolder(Path("/runs") / run_id), {"status": status, "name": name}, held_out=held_out, **more)


RUNS = [
    run("5", "done", "b", 0.5, model="Qwen3-8B"),
    run("4", "queued", "z"),
    run("3", "failed", "A", dataset="hh-harmless.jsonl"),
    run("2", "running", "y", 0.9),
    run("1", "done", "c", 0.7),
]


def ids(runs: list[RunSummary]) -> str:
    return "".join(run.id for run in runs)


def test_what_runs_or_waits_comes_first_in_every_order() -> None:
    assert ids(listed(RUNS, "", "newest")) == "42531"
    assert ids(listed(RUNS, "", "name")) == "24351"
    assert ids(listed(RUNS, "", "held-out accuracy")) == "24153"
    assert all(set(ids(listed(RUNS, "", order))[:2]) == {"2", "4"} for order in ORDERS)


def test_every_word_must_occur_somewhere_whatever_its_case() -> None:
    assert ids(listed(RUNS, "QWEN", "newest")) == "5"
    assert ids(listed(RUNS, "harmless FAILED", "newest")) == "3"
    assert ids(listed(RUNS, "qwen failed", "newest")) == ""


def test_the_orders_come_round() -> None:
    order = "newest"
    for _ in ORDERS:
        order = next_order(order)
    assert order == "newest"
