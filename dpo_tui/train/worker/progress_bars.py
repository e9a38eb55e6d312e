"""Turn the progress bars of datasets, transformers, huggingface_hub and TRL into the run's progress.

All of them draw with tqdm. A worker has no terminal, so its bars report where a reader can see them: rows tokenised,
shards loaded, bytes of a download, pairs scored by the reference.
"""

import io
from collections.abc import Callable
from typing import Any

import tqdm.auto
import tqdm.std

# (done, total, unit, description)
Report = Callable[[float, float | None, str, str], None]


class ReportingBar(tqdm.std.tqdm):  # type: ignore[misc]
    """A tqdm bar that draws nothing and reports instead, at tqdm's own pace."""

    report: Report | None = None
    # tqdm's watcher thread would only redraw bars that nobody sees.
    monitor_interval = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["file"] = io.StringIO()
        kwargs["mininterval"] = 0.5
        super().__init__(*args, **kwargs)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Report instead of drawing."""
        if self.report is not None:
            unit = {"it": "", "B": "bytes", "ex": "rows"}.get(self.unit.strip(), self.unit.strip())
            self.report(self.n, self.total, unit, (self.desc or "").rstrip(": "))
        return True


def install(report: Report) -> None:
    """Make every bar that is created from now on report. Call it before the libraries are imported."""
    ReportingBar.report = staticmethod(report)
    for module in (tqdm, tqdm.auto, tqdm.std):
        module.tqdm = ReportingBar
