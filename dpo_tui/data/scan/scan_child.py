"""Run a scan in a child process: the app stays responsive, and a scan can be cancelled at any moment."""

import dataclasses
import secrets
from collections.abc import Iterator

from dpo_tui.data.scan.scan_request import ScanRequest
from dpo_tui.errors import DataError
from dpo_tui.processes.json_child import ChildError, JsonChild, Message


class ScanProcess(JsonChild):
    """One scan, as a child process; leaving the context, or :meth:`close`, ends the child and its workers.

    Args:
        request: what to scan.
    """

    def __init__(self, request: ScanRequest) -> None:
        # Hashes of texts are compared between its processes, so they share a seed; a random one, so that no file can be
        # made that collides on purpose.
        environment = {"PYTHONHASHSEED": str(secrets.randbelow(2**32)), "OMP_NUM_THREADS": "1"}
        super().__init__("dpo_tui.data.scan.scanner", "the scan", environment=environment)
        self.send(dataclasses.asdict(request))

    def events(self) -> Iterator[Message]:
        """Every event, as it comes; the last one is ``report``.

        Yields:
            ``{"event": "progress", "phase", "done", "total"}``, ``{"event": "partial", "report"}`` and at last
            ``{"event": "report", "report"}``.

        Raises:
            DataError: the dataset cannot be read, or the child died.
        """
        try:
            for event in self.messages():
                if event["event"] == "error":
                    raise DataError(event["message"], hint=event["hint"])
                yield event
                if event["event"] == "report":
                    return
            raise self.died()
        except ChildError as error:
            raise DataError(error.message, hint=error.hint) from error
