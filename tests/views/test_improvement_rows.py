"""Where the row of an improvement stands, and what of it goes on when the app is left."""

from pathlib import Path

from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.runs.folder import RunFolder
from dpo_tui.views.group_row import IMPROVEMENT, RunGroup
from dpo_tui.views.run_groups import GroupedRunList, names_of_live, with_groups
from dpo_tui.views.run_list import RunSummary


def run(number: int, status: str = "done") -> RunSummary:
    return RunSummary(RunFolder(Path(f"/runs/{number}")), {"name": f"run-{number}", "status": status})


def improvement(status: str, *runs: RunSummary) -> RunGroup:
    return RunGroup("7", "better", IMPROVEMENT, status, "", runs, ImprovementFolder(Path("/improvements/7")))


def test_one_that_works_comes_first_although_none_of_its_runs_trains() -> None:
    alone, own = run(9, "running"), run(1)
    working, ended = improvement("running", own), improvement("done", own)
    assert with_groups([alone, own], [working], ()) == [working, alone]
    assert with_groups([alone, own], [ended], ()) == [alone, ended]
    assert with_groups([alone, own], [working], ("7",)) == [working, own, alone]


def test_one_that_ended_before_its_first_training_is_listed_too() -> None:
    alone, failed = run(9), improvement("failed")
    assert with_groups([alone], [failed], ()) == [failed, alone]
    assert with_groups([], [failed], ()) == [failed]
    assert with_groups([alone], [failed], (), unfold_all=True) == [alone], "a filter looks for runs"


def test_one_that_samples_goes_on_when_the_app_is_left() -> None:
    runs = GroupedRunList()
    runs.summaries, runs.groups = [run(1), run(2, "running")], [improvement("running", run(1))]
    assert names_of_live(runs) == ["better", "run-2"]
