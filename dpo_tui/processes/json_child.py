"""A child process that runs one of our modules and speaks JSON: one object a line, both ways."""

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

Message = dict[str, Any]
_TAIL = 1 << 13
_SHOWN = 80


class ChildError(DpoTuiError):
    """A child could not be started, could not do what it was asked, or ended before it had.

    Args:
        exit_code: of the child's own error, where it reported one.
    """

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int = 1) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


class JsonChild:
    """One child process in a session of its own; leaving the context ends it and what it forked.

    It also ends when this process dies, however: it holds the reading end of a pipe whose writing end is here (see
    `dpo_tui.processes.child`). PR_SET_PDEATHSIG would not do: the kernel sends that signal when the *thread* that
    started the child ends, and the app starts children from worker threads. Watching stdin would not do either: one may
    close it after the last request and still want the answer.

    Args:
        module: what ``python -m`` would run; it reads requests from stdin and writes messages to stdout.
        task: what the child does, as the subject of an error message: "the scan", "generating answers".
        environment: variables to set in the child besides this process's.

    Raises:
        ChildError: no process can be started.
    """

    def __init__(self, module: str, task: str, *, environment: Mapping[str, str] | None = None) -> None:
        self.task = task
        self._ended = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        reading, writing = os.pipe()
        # A file object, so that the child of a forgotten JsonChild ends with it.
        self._lifeline = open(writing, "wb", buffering=0)  # noqa: SIM115 (closed with the process)
        try:
            self._process = subprocess.Popen(
                # -P: a json.py or torch.py in the current folder is not taken for the library.
                [sys.executable, "-P", "-m", "dpo_tui.processes.child", str(reading), module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=child_environment() | {"PYTHONUNBUFFERED": "1"} | dict(environment or {}),
                pass_fds=(reading,),
                # Ctrl-C is for whoever asked; it ends the child by leaving the context.
                start_new_session=True,
            )
        except OSError as error:
            self._lifeline.close()
            self._errors.close()
            raise ChildError(f"{task} could not be started: {error}") from error
        finally:
            os.close(reading)

    @property
    def pid(self) -> int:
        """The child's process id, which is also its process group."""
        return self._process.pid

    def send(self, request: Mapping[str, Any]) -> None:
        """Send a request. A child that has ended takes none: `messages` ends then, and `died` says why."""
        assert self._process.stdin is not None  # noqa: S101 (asked for in the constructor)
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def messages(self) -> Iterator[Message]:
        """Yield the child's messages as they come, until it closes its stdout or ends.

        Raises:
            ChildError: it wrote something else than a JSON object.
        """
        while line := self._read_line():
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if not isinstance(message, dict):
                shown = line[:_SHOWN].decode("utf-8", "replace").strip()
                raise ChildError(f"{self.task} answered {shown!r}, which is no JSON object", hint="Please report this.")
            yield message

    def wait(self) -> int:
        """Wait for the child to end by itself; return its exit code, negative for a signal."""
        return self._process.wait()

    def died(self) -> ChildError:
        """Wait for the end of a child that sent too little, and say why it ended."""
        code = self._process.wait()
        if self._ended:
            return ChildError(f"{self.task} was cancelled")
        if code < 0:
            hint = "The machine may be out of memory." if code == -signal.SIGKILL else None
            return ChildError(f"{self.task} was ended by {_signal_name(-code)}", hint=hint)
        reason = self._last_error_line() or f"exit code {code}"
        return ChildError(f"{self.task} ended early: {reason}", hint="Please report this.")

    def end(self) -> None:
        """End the child and what it forked, from any thread; whoever reads its messages sees them end."""
        if self._process.poll() is None:
            self._ended = True
            # The whole group: a pool's workers hold the child's stdout, and its reader would wait for them.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the child, from any thread, and release its pipes; nothing happens if it has ended."""
        self.end()
        self._process.wait()
        for stream in (self._lifeline, self._process.stdin, self._process.stdout, self._errors):
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
        """The next whole line; empty at the end. A line without its line feed was cut off by the child's end."""
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
