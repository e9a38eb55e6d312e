"""tqdm bars report their counts instead of drawing them."""

import subprocess
import sys

from tests.support.repository import ROOT

_SCRIPT = """
from dpo_tui.train.worker.progress_bars import report_bars
reports = []
report_bars(lambda *values: reports.append(values))
from tqdm import tqdm
from tqdm.auto import tqdm as auto_tqdm
with tqdm(total=4, unit="B", desc="model.safetensors: ") as bar:
    bar.update(4)
list(auto_tqdm(range(3), unit=" ex"))
list(auto_tqdm(iter("ab"), unit="it"))
print([report for report in reports if report[0]])
"""


def test_bars_that_libraries_import_report_counts_units_and_descriptions() -> None:
    """In a process of its own, since the names in tqdm are replaced for good."""
    seen = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    assert seen.stdout.strip() == str([(4, 4, "bytes", "model.safetensors"), (3, 3, "rows", ""), (2, None, "", "")]), (
        seen.stderr
    )
    assert seen.stderr == "", "nothing is drawn"
