"""Run a scan in a child process: the app stays responsive, and a scan can be cancelled at any moment."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import orjson

from dpo_tui.child_environment import child_environment
from dpo_tui.data.scan_request import ScanRequest
from dpo_tui.errors import DataError


class ScanProcess:
    """One scan, as a child process with a session of its own.

    Use it as a context manager, or call :meth:`cancel`; either ends the child and its workers.

    Args:
        request: what to scan.
    """

    def __init__(self, request: ScanRequest) -> None:
        # Hashes of texts are compared between its processes, so they share a seed; a random one, so that no file can be
        # made that collides on purpose.
        environment = {**child_environment(), "PYTHONHASHSEED": str(secrets.randbelow(2**32)), "OMP_NUM_THREADS": "1"}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "dpo_tui.data.scan"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            start_new_session=True,
        )
        assert self._process.stdin is not None  # noqa: S101 (asked for above)
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(request.to_json())
            self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """The child's process id, which is also its process group."""
        return self._process.pid

    def events(self) -> Iterator[dict[str, Any]]:
        """Every event, as it comes; the last one is ``report``.

        Yields:
            ``{"event": "progress", "phase", "done", "total"}``, ``{"event": "partial", "report"}`` and at last
            ``{"event": "report", "report"}``.

        Raises:
            DataError: the dataset cannot be read, or the child died.
        """
        assert self._process.stdout is not None  # noqa: S101 (asked for in the constructor)
        for line in self._process.stdout:
            event = orjson.loads(line)
            if event["event"] == "error":
                raise DataError(event["message"], hint=event["hint"])
            yield event
            if event["event"] == "report":
                return
        raise self._died()

    def wait(self) -> int:
        """Wait for the child to end by itself, as it does after its report; returns its exit code."""
        return self._process.wait()

    def cancel(self) -> None:
        """End the child and its workers; nothing happens if they have ended."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def __enter__(self) -> "ScanProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def _died(self) -> DataError:
        code = self._process.wait()
        self._errors.seek(0)
        told = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        if code < 0:
            name = signal.Signals(-code).name
            hint = "The machine may be out of memory." if code == -signal.SIGKILL else None
            return DataError(f"the scan was ended by {name}", hint=hint)
        return DataError(
            f"the scan ended early: {told[-1] if told else f'exit code {code}'}", hint="Please report this."
        )
