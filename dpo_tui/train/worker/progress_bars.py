"""tqdm bars of datasets, transformers, huggingface_hub and TRL, whose counts go into the run's progress.

A worker has no terminal. Its bars report where a reader sees them: rows tokenised, shards loaded, bytes downloaded,
pairs scored by the reference.
"""

import io
from collections.abc import Callable
from typing import Any

import tqdm.auto
import tqdm.std

Report = Callable[[float, float | None, str, str], None]
"""Takes how many units are done, how many there are (None where unknown), the unit, and the bar's description."""
_UNITS = {"it": "", "B": "bytes", "ex": "rows"}
"""tqdm's units, as progress.json names them."""


class ReportingBar(tqdm.std.tqdm):  # type: ignore[misc]
    """A tqdm bar that calls ``report`` wherever it would draw, at most twice a second."""

    report: Report | None = None
    # tqdm's monitor thread would only redraw bars that nobody sees.
    monitor_interval = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["file"] = io.StringIO()
        kwargs["mininterval"] = 0.5
        super().__init__(*args, **kwargs)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Report instead of drawing."""
        if self.report is not None:
            unit = self.unit.strip()
            self.report(self.n, self.total, _UNITS.get(unit, unit), (self.desc or "").rstrip(": "))
        return True


def report_bars(report: Report) -> None:
    """Make every bar that is created from now on report.

    Call it before the libraries are imported: they bind the name ``tqdm`` when they are.
    """
    ReportingBar.report = staticmethod(report)
    for module in (tqdm, tqdm.auto, tqdm.std):
        module.tqdm = ReportingBar
