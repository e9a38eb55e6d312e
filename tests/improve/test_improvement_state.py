"""state.json of an improvement: what is refused."""

from pathlib import Path

import pytest

from dpo_tui.errors import RunError
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_state import read_improvement_state


@pytest.mark.parametrize("seconds", ["true", '"1"', "1" + "0" * 400, "NaN"])
def test_seconds_that_are_no_number_to_add_up_are_refused(tmp_path: Path, seconds: str) -> None:
    folder = ImprovementFolder(tmp_path)
    folder.state.write_text(f'{{"seconds": {{"train": 1.5, "sample": {seconds}}}}}', encoding="utf-8")
    with pytest.raises(RunError, match="seconds has a value that is no number"):
        read_improvement_state(folder)
    folder.state.write_text('{"seconds": {"train": 1.5}}', encoding="utf-8")
    assert read_improvement_state(folder).hours == 1.5 / 3600
