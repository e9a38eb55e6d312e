"""A child process that runs one of our modules and exchanges JSON lines with it over stdin and stdout."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from dpo_tui.errors import DpoTuiError
from dpo_tui.processes.child_environment import child_environment
from dpo_tui.text.plain_documents import parse_json

Message = dict[str, Any]
_TAIL = 1 << 13  # bytes at the end of stderr in which the last line is searched
_SHOWN = 80  # bytes of an invalid message that an error quotes


class ChildError(DpoTuiError):
    """A child could not be started, reported an error, or ended before it had answered.

    Args:
        exit_code: of the child's own error, where it reported one.
    """

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int = 1) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


class JsonChild:
    """One child process, in a new session; leaving the context ends it and the processes that it forked.

    It also ends when this process dies, by whatever signal: it holds the read end of a pipe whose write end is here
    (see `dpo_tui.processes.child`). PR_SET_PDEATHSIG cannot be used: the kernel sends it when the *thread* that started
    the child ends, and the app starts children from worker threads. Watching stdin for its end cannot be used either:
    it may be closed after the last request, before the answer is read.

    Args:
        module: what ``python -m`` would run; it reads requests from stdin and writes messages to stdout.
        task: what the child does, as the subject of error messages: "the scan", "generating answers".
        environment: variables to set in the child in addition to this process's.

    Raises:
        ChildError: no process can be started.
    """

    def __init__(self, module: str, task: str, *, environment: Mapping[str, str] | None = None) -> None:
        self.task = task
        self._ended = False
        # A file for stderr and not a pipe: nobody reads it while the child runs, and a full pipe would block the child.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        read_end, write_end = os.pipe()
        # A file object is closed with the last reference, so that the child of a JsonChild that nobody closed ends too.
        self._parent_pipe = open(write_end, "wb", buffering=0)  # noqa: SIM115 (closed with the process)
        try:
            self._process = subprocess.Popen(
                # -P: do not import a json.py or torch.py of the current folder instead of the library.
                [sys.executable, "-P", "-m", "dpo_tui.processes.child", str(read_end), module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=child_environment() | {"PYTHONUNBUFFERED": "1"} | dict(environment or {}),
                pass_fds=(read_end,),
                # Ctrl-C then reaches this process only, which ends the child by leaving the context.
                start_new_session=True,
            )
        except OSError as error:
            self._parent_pipe.close()
            self._errors.close()
            raise ChildError(f"{task} could not be started: {error}") from error
        finally:
            os.close(read_end)  # the child has its own copy

    @property
    def pid(self) -> int:
        """The child's process id, which is also its process group."""
        return self._process.pid

    def send(self, request: Mapping[str, Any]) -> None:
        """Send a request. If the child has ended, nothing happens here: `messages` ends then, and `died` says why."""
        assert self._process.stdin is not None  # noqa: S101 (asked for in the constructor)
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def messages(self) -> Iterator[Message]:
        """Yield the child's messages as they come, until it closes its stdout or ends.

        Raises:
            ChildError: it wrote something other than a JSON object.
        """
        while line := self._read_line():
            try:
                message = parse_json(line)
            except ValueError:
                message = None
            if not isinstance(message, dict):
                shown = line[:_SHOWN].decode("utf-8", "replace").strip()
                raise ChildError(
                    f"{self.task} answered {shown!r}, which is not a JSON object", hint="Please report this."
                )
            yield message

    def wait(self) -> int:
        """Wait for the child to end by itself; return its exit code, negative for a signal."""
        return self._process.wait()

    def died(self) -> ChildError:
        """The error for a child whose messages ended early: wait for its end and say why it ended."""
        code = self._process.wait()
        if self._ended:
            return ChildError(f"{self.task} was cancelled")
        if code < 0:
            hint = "The machine may be out of memory." if code == -signal.SIGKILL else None
            return ChildError(f"{self.task} was ended by {_signal_name(-code)}", hint=hint)
        reason = self._last_error_line() or f"exit code {code}"
        return ChildError(f"{self.task} ended early: {reason}", hint="Please report this.")

    def end(self) -> None:
        """Kill the child and what it forked, from any thread; reading its messages then ends."""
        if self._process.poll() is None:
            self._ended = True
            # The whole group: the workers of a process pool hold the child's stdout, so that reading it would not end.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill the child if it runs, from any thread, and close its pipes."""
        self.end()
        self._process.wait()
        for stream in (self._parent_pipe, self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_line(self) -> bytes:
        """The next line; empty at the end. A last line without a line feed is dropped: the child died."""
        assert self._process.stdout is not None  # noqa: S101 (asked for in the constructor)
        try:
            line = self._process.stdout.readline()
        except ValueError:  # closed by another thread
            return b""
        return line if line.endswith(b"\n") else b""

    def _last_error_line(self) -> str:
        try:
            size = self._errors.seek(0, os.SEEK_END)
            self._errors.seek(max(0, size - _TAIL))
            lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        except ValueError:  # closed by another thread
            return ""
        return lines[-1] if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
